"""What copies between two views of memory have in common, in whichever way they go through the axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorStage,
    numbers_in,
    operands_between,
    run_stages,
)
from graphpress.backends.tvm.kernels.view import StridedView


@dataclass(frozen=True)
class ViewCopy:
    """A copy from one view into another.

    Args:
        extents: of the axes.
        source: what it reads.
        result: what it writes.
        stages: what happens on the way; they see no channels.
    """

    extents: tuple[int, ...]
    source: StridedView
    result: StridedView
    stages: tuple[VectorStage, ...] = ()
    takes_open: ClassVar[bool] = True

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, what the stages read, and the result."""
        return operands_between(self.source.dtype, self.stages, self.result.dtype)

    @property
    def copies(self) -> bool:
        """Whether elements stay what they are."""
        same = (self.source.dtype, self.source.zero_point) == (self.result.dtype, self.result.zero_point)
        return same and not self.stages

    def starts(self, b: KernelBuilder, number: Expr, outer: int) -> tuple[Expr, Expr]:
        """Where an element of the first ``outer`` axes begins, in the source and in the result.

        Args:
            b: takes the statements.
            number: of the element, counted through all images.
            outer: how many axes.
        """
        image = b.let(number // int(math.prod(self.extents[:outer])))
        source, result = (image * view.size + b.value(view.start) for view in (self.source, self.result))
        for axis in reversed(range(outer)):
            coordinate = b.let(number % self.extents[axis])
            source = source + coordinate * self.source.steps[axis]
            result = result + coordinate * self.result.steps[axis]
            number = b.let(number // self.extents[axis])
        return b.let(source), b.let(result)

    def write(self, place: StageContext, vector: Expr, offset: Expr, step: int = 1) -> None:
        """What was read of the source, through the stages, into elements of the result ``step`` apart."""
        if self.copies:
            place.b.store(place.memory[RESULT], offset, vector, place.lanes, step)
            return
        numbers = numbers_in(vector, place.lanes, self.source.dtype, self.source.zero_point)
        line = Plane(self.result.size, 1, 1, self.result.size, dtype=self.result.dtype)
        position = Position(0, 0, 0, offset)
        store = Destination(line, self.result.zero_point)
        store.write(place, run_stages(self.stages, place, numbers, position), position, step)
