"""Stages, and the units that the numbers between them are in.

A kernel's sums are multiplied by a scale per channel exactly once, into the units of what follows: of the codes that
are written, where nothing but clamps lies between, so that integers are rounded once and exactly as a Q/DQ graph is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from graphpress.backends.tvm.kernels.stages import Add, ApplyFunction, Clip, Divide, Multiply, Round, Scale, VectorStage
from graphpress.backends.tvm.lowering.codes import Codes
from graphpress.backends.tvm.program import Buffer, CallerTensor, Constant, Source

REAL = 1.0
"""The unit of plain numbers."""


@dataclass
class Epilogue:
    """Stages under construction.

    Args:
        scales: float32, per channel: what the kernel's sums are still to be multiplied by; None for nothing.
    """

    scales: np.ndarray | None = None
    unit: float = REAL
    stages: list[VectorStage] = field(default_factory=list)
    operands: dict[str, Source] = field(default_factory=dict)

    def into(self, unit: float) -> None:
        """Bring the numbers into a unit."""
        if self.scales is not None:
            scales, self.scales = self.scales / np.float32(unit), None
            self.stages.append(Scale())
            self.operands["scales"] = Constant(scales)
        elif unit != self.unit:
            self.stages.append(Divide(unit) if self.unit == REAL else Multiply(_ratio(self.unit, unit)))
        self.unit = unit

    def clip(self, low: float | None, high: float | None) -> None:
        """Limits in real numbers."""
        if self.scales is not None:
            self.into(REAL)
        self.stages.append(Clip(*(None if end is None else end / self.unit for end in (low, high))))

    def activate(self, function: str) -> None:
        """A function of real numbers."""
        self.into(REAL)
        self.stages.append(ApplyFunction(function))

    def round(self, codes: Codes) -> None:
        """Onto a grid, and on in its units."""
        self.into(codes.scale)
        self.stages.append(Round(codes.low - codes.zero_point, codes.high - codes.zero_point))

    def add(self, other: Buffer | CallerTensor, codes: Codes | None, unit: float) -> None:
        """Another activation, into a unit.

        Args:
            other: the activation.
            codes: of the other; None where it is float.
            unit: of the sum; that of real numbers where the other is float.
        """
        name = f"residual_{len(self.operands)}" if "residual" in self.operands else "residual"
        if self.scales is not None:
            self.into(unit)
        ratio, self.unit = _ratio(self.unit, unit), unit
        scale, zero = (REAL, 0) if codes is None else (codes.scale, codes.zero_point)
        self.stages.append(Add(other.plane, name, ratio, _ratio(scale, unit), zero))
        self.operands[name] = other


def _ratio(unit: float, other: float) -> float:
    """Of two units, in float32: what else is computed of it starts from that."""
    return float(np.float32(unit / other))
