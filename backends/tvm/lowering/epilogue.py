"""Stages, and the units that the numbers between them are in.

A kernel's sums are multiplied by a scale per channel exactly once, into the units of what follows: of the codes that
are written, where nothing but clamps lies between, so that integers are rounded once and exactly as a Q/DQ graph is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from graphpress.backends.tvm.kernels.combine import Choose, Combine, Gate, OtherVector
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import (
    TABLE,
    Add,
    AddCodes,
    ApplyFunction,
    Clip,
    Divide,
    LookUp,
    Multiply,
    Round,
    Scale,
    VectorStage,
)
from graphpress.backends.tvm.lowering.codes import Codes
from graphpress.backends.tvm.lowering.operators import VectorFunction
from graphpress.backends.tvm.program import Constant, Source

REAL = 1.0
"""The unit of plain numbers."""
ADDEND = "addend"
"""Name of the operand that holds what is added to scaled sums."""


class OtherOperand(NamedTuple):
    """Another operand of a stage: where it lies, its layout, and its codes; None for floats."""

    memory: Source
    plane: Plane
    codes: Codes | None


@dataclass
class Epilogue:
    """Stages under construction.

    Args:
        scales: float32, per channel: what the kernel's sums are still to be multiplied by; None for nothing.
        unit: that the numbers are in.
        summed: of how many numbers the sums are still to become the mean.
        looked_up: the codes that are mapped by a table at the end; None where there is none.
        addend: float32, per channel: what is still to be added, in real numbers, once the sums are multiplied by their
            scales; None for nothing.
    """

    scales: np.ndarray | None = None
    unit: float = REAL
    summed: int = 1
    looked_up: Codes | None = None
    addend: np.ndarray | None = None
    stages: list[VectorStage] = field(default_factory=list)
    operands: dict[str, Source] = field(default_factory=dict)

    def into(self, unit: float) -> None:
        """Bring the numbers into a unit."""
        if self.scales is not None:
            self._scale(self.scales, unit)
        elif unit != self.unit or self.summed != 1:
            divides = self.unit == REAL and self.summed == 1
            self.stages.append(Divide(unit) if divides else Multiply(_ratio(self.unit, _single(unit * self.summed))))
        self.unit, self.summed = unit, 1

    def _scale(self, scales: np.ndarray, unit: float) -> None:
        """Multiply the sums of each channel, and add what is to be added to them."""
        self.stages.append(Scale())
        self.operands["scales"], self.scales = Constant(scales / np.float32(unit)), None
        if self.addend is not None:
            numbers, self.addend = self.addend / np.float32(unit), None
            plane = Plane(numbers.size, 1, 1, numbers.size).shared()
            self.stages.append(Add(plane, ADDEND))
            self.operands[ADDEND] = Constant(numbers, plane)

    def clip(self, low: float | None, high: float | None) -> None:
        """Limits in real numbers."""
        if self.scales is not None or self.summed != 1:
            self.into(REAL)
        self.stages.append(Clip(*(None if end is None else _ratio(end, self.unit) for end in (low, high))))

    def end(self, codes: Codes | None) -> None:
        """Bring the numbers into the units of what is written; limits at which codes saturate anyway are dropped."""
        self.into(REAL if codes is None else codes.scale)
        if codes is None or not self.stages or not isinstance(last := self.stages[-1], Clip):
            return
        low, high = codes.low - codes.zero_point, codes.high - codes.zero_point
        if (last.low is None or round(last.low) <= low) and (last.high is None or round(last.high) >= high):
            self.stages.pop()

    def look_up(self, codes: Codes, table: np.ndarray) -> None:
        """Make codes of the numbers, and map them by a table; nothing follows."""
        self.end(codes)
        self.looked_up = codes
        self.stages.append(LookUp())
        self.operands[TABLE] = Constant(table, Plane(1, 1, table.size, 1, dtype="uint8"))

    def activate(self, function: VectorFunction) -> None:
        """A function of real numbers."""
        self.into(REAL)
        self.stages.append(ApplyFunction(*function))

    def gate(self, function: VectorFunction, codes: Codes | None) -> None:
        """The product with a function of the numbers.

        Args:
            function: of real numbers.
            codes: onto whose grid its result is rounded before; None for floats.
        """
        if self.scales is not None or self.summed != 1:
            self.into(REAL)
        factor = Epilogue(unit=self.unit)
        factor.activate(function)
        if codes is not None:
            factor.round(codes)
        self.stages.append(Gate(tuple(factor.stages)))
        self.unit = _single(self.unit * factor.unit)

    def round(self, codes: Codes) -> None:
        """Onto a grid, and on in its units."""
        self.into(codes.scale)
        self.stages.append(Round(codes.low - codes.zero_point, codes.high - codes.zero_point))

    def add(self, other: Source, plane: Plane, codes: Codes | None, unit: float) -> None:
        """Another activation, into a unit.

        Args:
            other: the activation.
            plane: its layout.
            codes: of the other; None where it is float.
            unit: of the sum; that of real numbers where the other is float.
        """
        name = self._operand()
        if self.scales is not None:
            self.into(unit)
        ratio, self.unit = _ratio(self.unit, unit), unit
        scale, zero = (REAL, 0) if codes is None else (codes.scale, codes.zero_point)
        self.stages.append(Add(plane, name, ratio, _ratio(scale, unit), zero))
        self.operands[name] = other

    def subtract(self, other: Source, plane: Plane, codes: Codes | None, comes_first: bool) -> None:
        """Another operand, in real numbers.

        Args:
            other: the operand.
            plane: its layout.
            codes: of the other; None where it is float.
            comes_first: whether the numbers are what it is subtracted from.
        """
        self.into(REAL)
        if not comes_first:
            self.stages.append(Multiply(-1.0))
        self.add(other, plane, codes, REAL)
        stage = self.stages[-1]
        if comes_first and isinstance(stage, Add):
            self.stages[-1] = replace(stage, other_ratio=-stage.other_ratio)

    def combine(self, function: str, other: Source, plane: Plane, codes: Codes | None, comes_first: bool) -> None:
        """A function of the numbers and another operand: of real numbers, but products in whatever units.

        Args:
            function: a key of ``BINARY_FUNCTIONS``.
            other: the operand.
            plane: its layout.
            codes: of the other; None where it is float.
            comes_first: whether the numbers are the first argument.
        """
        name = self._operand()
        if function != "mul" or self.scales is not None or self.summed != 1:
            self.into(REAL)
        unit, zero = (REAL, 0) if codes is None else (codes.scale, codes.zero_point)
        self.operands[name] = other
        if function == "mul":
            self.stages.append(Combine(function, plane, name, zero_point=zero))
            self.unit = _single(self.unit * unit)
        else:
            self.stages.append(Combine(function, plane, name, unit, zero, not comes_first))

    def choose(self, others: Mapping[int, OtherOperand]) -> None:
        """One of two numbers where a third is true, of which the numbers are one; real numbers.

        Args:
            others: the other two by their place among condition, what is taken where it holds, and what is elsewhere.
        """
        self.into(REAL)
        (place,) = {0, 1, 2} - set(others)
        read = []
        for _, (memory, plane, codes) in sorted(others.items()):
            unit, zero_point = (REAL, 0) if codes is None else (codes.scale, codes.zero_point)
            read.append(OtherVector(plane, self._operand(), unit, zero_point))
            self.operands[read[-1].name] = memory
        first, second = read
        self.stages.append(Choose(place, (first, second)))

    def add_codes(
        self, other: Source, plane: Plane, before: Codes, others: Codes, after: Codes, comes_first: bool
    ) -> None:
        """Another activation, where both are codes and so is the sum, whose units follow.

        Args:
            other: the activation.
            plane: its layout.
            before: the numbers now.
            others: codes of the other.
            after: of the sum.
            comes_first: whether the numbers are the first operand.
        """
        name, pair = self._operand(), (before, others)
        ratios = [np.float32(codes.scale) / np.float32(after.scale) for codes in pair]
        zeros = [codes.zero_point - codes.shift for codes in pair]
        # The compiler of ONNX Runtime contracts the first product into the sum: it is not rounded.
        first, second = (0, 1) if comes_first else (1, 0)
        product = ratios[second] * np.float32(zeros[second])
        subtracted = np.float32(float(ratios[first]) * zeros[first] + float(product))
        zero_point = after.zero_point - after.shift
        self.stages.append(
            AddCodes(
                plane,
                (float(ratios[0]), float(ratios[1])),
                float(np.float32(zero_point) - subtracted),
                (zeros[0], -others.shift),
                zero_point,
                comes_first,
                name,
            )
        )
        self.operands[name], self.unit = other, after.scale

    def _operand(self) -> str:
        """A name for one more activation."""
        return f"residual_{len(self.operands)}" if "residual" in self.operands else "residual"


def _ratio(unit: float, other: float) -> float:
    """Of two units, in float32: what else is computed of it starts from that."""
    return _single(unit / other)


def _single(number: float) -> float:
    """A number rounded to float32."""
    return float(np.float32(number))
