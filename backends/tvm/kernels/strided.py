"""Copies between any two orders of axes: what moves data and computes nothing but elementwise stages.

    result[Σ iₖ · result stepₖ] = stages(source[Σ iₖ · source stepₖ] - zero-point)      for all coordinates i

Transposes, slices, repetitions (a step of 0), parts of a concatenation and a caller's tensor into channels-last memory
are copies of this kind with other steps. Vectors run along the axis that is contiguous on both sides where there is
one, else along the source's: on the other side their elements lie apart. Stages see that axis in the lanes: only those
that treat all elements alike may stand here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.interleave import Interleave, can_interleave
from graphpress.backends.tvm.kernels.pieces import each_piece, halvings
from graphpress.backends.tvm.kernels.stages import StageContext, VectorStage
from graphpress.backends.tvm.kernels.transposition import Transposition
from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.kernels.view_copy import ViewCopy

SMALLEST_BLOCK = 4
"""Elements along both axes from which on blocks are transposed in registers."""
PLENTY = 16
"""Tasks that suffice for any number of threads."""


class _Axis(NamedTuple):
    extent: int
    source: int
    result: int


@dataclass(frozen=True)
class StridedCopy(ViewCopy):
    """A copy from one view into another.

    Args:
        extents: of the axes, the slowest of the result first (``strided_copy`` brings them into that order).
        source: what it reads.
        result: what it writes.
        stages: what happens on the way.
    """

    @property
    def axes(self) -> list[_Axis]:
        """The axes, slowest first."""
        return [_Axis(*axis) for axis in zip(self.extents, self.source.steps, self.result.steps, strict=True)]

    @property
    def along(self) -> int:
        """The axis that vectors run along."""
        costs = [((axis.source != 1) * 2 + (axis.result != 1), -axis.extent) for axis in self.axes]
        wide = [number for number, axis in enumerate(self.axes) if axis.extent > 1] or range(len(costs))
        return min(wide, key=lambda number: costs[number])

    @property
    def outer(self) -> int:
        """How many of the slowest axes are shared among tasks."""
        count = 0
        while count < self.along and math.prod(self.extents[:count]) < PLENTY:
            count += 1
        return count

    def tasks(self, isa: Isa) -> int:
        """A task is an element of the outer axes."""
        return math.prod(map(int, self.task_grid(isa)))

    def task_grid(self, isa: Isa) -> tuple[int, ...]:
        """The outer axes."""
        return self.extents[: self.outer]

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All elements of the inner axes."""
        inner = [axis for number, axis in enumerate(self.axes) if number >= self.outer and number != self.along]
        self._loops(b, isa, memory, inner, self.starts(b, task, self.outer))

    def _loops(
        self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], axes: Sequence[_Axis], at: tuple[Expr, Expr]
    ) -> None:
        if not axes:
            self._vectors(b, isa, memory, at)
            return
        with b.loop(axes[0].extent, "place") as place:
            inside = at[0] + place * axes[0].source, at[1] + place * axes[0].result
            self._loops(b, isa, memory, axes[1:], inside)

    def _vectors(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], at: tuple[Expr, Expr]) -> None:
        axis = self.axes[self.along]
        for chunk in halvings(axis.extent, self._lanes(isa, axis)):
            place = StageContext(b, isa, memory, chunk.size)
            with each_piece(b, axis.extent, chunk, "vector") as vector:
                first = chunk.start + vector * chunk.size
                self._vector(place, axis, (at[0] + first * axis.source, at[1] + first * axis.result))

    def _lanes(self, isa: Isa, axis: _Axis) -> int:
        """Small elements that are copied as they are fill a vector."""
        whole = self.copies and axis.source == axis.result == 1
        return isa.lanes * 4 // np.dtype(self.source.dtype).itemsize if whole else isa.lanes

    def _vector(self, place: StageContext, axis: _Axis, at: tuple[Expr, Expr]) -> None:
        value = place.b.load(place.memory["source"], at[0], place.lanes, axis.source)
        self.write(place, value, at[1], axis.result)


def strided_copy(
    extents: Sequence[int],
    source: StridedView,
    result: StridedView,
    stages: Sequence[VectorStage] = (),
    *,
    owns_gaps: bool = False,
) -> StridedCopy | Transposition | Interleave:
    """A copy over axes in any order; those that follow each other on both sides become one.

    Args:
        extents: of the axes.
        source: what it reads.
        result: what it writes.
        stages: what happens on the way.
        owns_gaps: whether what lies behind the channels of the result may be written, too.
    """
    axes = [_Axis(*axis) for axis in zip(extents, source.steps, result.steps, strict=True) if axis[0] != 1]
    merged: list[_Axis] = []
    for axis in sorted(axes, key=lambda axis: -abs(axis.result)):
        before = merged[-1] if merged else None
        if before and before.source == axis.extent * axis.source and before.result == axis.extent * axis.result:
            merged[-1] = _Axis(before.extent * axis.extent, axis.source, axis.result)
        else:
            merged.append(axis)
    turned = _turned(merged)
    sizes, froms, tos = zip(*(turned or merged or [_Axis(1, 1, 1)]), strict=True)
    source, result = replace(source, steps=froms), replace(result, steps=tos)
    if can_interleave(sizes, source, result, owns_gaps) and not any(stage.operands for stage in stages):
        return Interleave(sizes, source, result, tuple(stages))
    kind = Transposition if turned else StridedCopy
    return kind(sizes, source, result, tuple(stages))


def _turned(axes: Sequence[_Axis]) -> list[_Axis] | None:
    """The axes with that which is contiguous in the source before that which is in the result; None without two."""
    inner = [next((axis for axis in axes if getattr(axis, side) == 1), None) for side in ("source", "result")]
    along = [axis for axis in inner if axis is not None and axis.extent >= SMALLEST_BLOCK]
    if len(along) < 2 or inner[0] is inner[1]:
        return None
    return [*(axis for axis in axes if axis not in along), *along]
