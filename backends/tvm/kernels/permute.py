"""Copies between layouts: the axes of a plane in another order.

    result[y, x, c] = stages(source[...] - zero_point)    each coordinate of the source being one of the result's

A tensor as its user has it, channels before pixels (NCHW), is a plane whose rows are its channels and whose channels
are the pixels of a row. Vectors run along the axis that is contiguous in the source where it is a row of the result,
else along the result's channels; on the other side their elements lie apart. Stages see that axis in the lanes: only
those that treat all elements alike may stand here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import halvings
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorStage,
    as_numbers,
    run_stages,
)

ROW, PIXEL, CHANNEL = range(3)
"""The axes of a plane."""
Axes = tuple[int, int, int]


@dataclass(frozen=True)
class Permute:
    """A copy in another order.

    Args:
        source: what it reads.
        store: what it writes.
        axes: for rows, pixels and channels of the result the axis of the source that they are.
        stages: what happens on the way.
        zero_point: of the source's codes.
    """

    source: Plane
    store: Destination
    axes: Axes
    stages: tuple[VectorStage, ...] = ()
    zero_point: int = 0

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source and the result."""
        return [Pointer("source", self.source.dtype), Pointer(RESULT, self.store.plane.dtype)]

    def tasks(self, isa: Isa) -> int:
        """A task is a row of the result."""
        return self.store.plane.height

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All pixels of one row."""
        plane = self.store.plane
        image, row = b.let(task // plane.height), b.let(task % plane.height)
        along, across = (PIXEL, CHANNEL) if self.axes[PIXEL] == CHANNEL else (CHANNEL, PIXEL)
        for chunk in halvings(extents(plane)[along], isa.lanes):
            place = StageContext(b, isa, memory, chunk.size)
            with b.loop(extents(plane)[across], "across") as other, b.loop(chunk.pieces, "vector") as vector:
                coordinates = {ROW: row, across: other, along: chunk.start + vector * chunk.size}
                position = Position(image, *(coordinates[axis] for axis in (ROW, PIXEL, CHANNEL)))
                self._vector(place, position, along)

    def _vector(self, place: StageContext, position: Position, along: int) -> None:
        lanes, step = place.lanes, steps(self.source)[self.axes[along]]
        value = place.b.load(place.memory["source"], self._source(position).within(self.source), lanes, step)
        if self.source.dtype != FLOAT:
            value = as_numbers(value, lanes) - splat(float(self.zero_point), lanes)
        result = run_stages(self.stages, place, value, position)
        self.store.write(place, result, position, steps(self.store.plane)[along])

    def _source(self, position: Position) -> Position:
        """Where an element of the result lies in the source."""
        given = (position.y, position.x, position.channel)
        coordinates = dict(zip(self.axes, given, strict=True))
        return replace(position, y=coordinates[ROW], x=coordinates[PIXEL], channel=coordinates[CHANNEL])


def extents(plane: Plane) -> tuple[int, int, int]:
    """Rows, pixels, channels."""
    return plane.height, plane.width, plane.channels


def steps(plane: Plane) -> tuple[int, int, int]:
    """Elements from one row, pixel, channel to the next."""
    return plane.row, plane.stride, 1
