"""Elementwise work: every channel of every pixel through stages, from one plane into another.

    result[y, x, c] = stages(source[y, x, c] - zero_point)

Adds, activations, quantizers and changes of halo or of stride are this kernel with other stages. Channels may begin
anywhere in either plane: a Concat or a Split of channels is a copy with an offset. What is left of whole vectors is
done in smaller ones, so that nothing beside the channels is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import each_piece, halvings
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.row_work import RowWork
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
from graphpress.backends.tvm.kernels.window import RowWindow


@dataclass(frozen=True)
class Map:
    """Elementwise work on a plane.

    Args:
        source: what it reads.
        store: what it writes; as many rows and pixels.
        stages: what happens between.
        zero_point: of the source's codes.
        channels: how many are mapped.
        first: the first of them in the source.
        target: where they go in the result.
    """

    source: Plane
    store: Destination
    channels: int
    stages: tuple[VectorStage, ...] = ()
    zero_point: int = 0
    first: int = 0
    target: int = 0
    takes_open: ClassVar[bool] = True

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, what the stages read, and the result."""
        return operands_between(self.source.dtype, self.stages, self.store.plane.dtype)

    @property
    def copies(self) -> bool:
        """Whether codes stay what they are."""
        return (
            not self.stages and self.zero_point == self.store.zero_point and self.source.dtype == self.store.plane.dtype
        )

    def tasks(self, isa: Isa) -> int:
        """A task is a row."""
        return int(self.store.plane.height)

    def task_grid(self, isa: Isa) -> tuple[int]:
        """Rows."""
        return (self.store.plane.height,)

    def row_work(self, isa: Isa) -> RowWork:
        """Row by row."""
        plane = self.store.plane
        return RowWork(self.source, plane, RowWindow(), plane.width * self.channels)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All pixels of one row."""
        plane = self.store.plane
        image, row = b.let(task // plane.height), b.let(task % plane.height)
        with b.loop(plane.width, "pixel") as pixel:
            for chunk in halvings(self.channels, self._lanes(isa)):
                with each_piece(b, self.channels, chunk, "vector") as vector:
                    channel = chunk.start + vector * chunk.size
                    self._vector(StageContext(b, isa, memory, chunk.size), Position(image, row, pixel, channel))

    def _lanes(self, isa: Isa) -> int:
        """Bytes that are copied fill a vector by fours."""
        return isa.lanes * 4 if self.copies and self.source.dtype != FLOAT else isa.lanes

    def _vector(self, place: StageContext, position: Position) -> None:
        source, target = position.moved(self.first), position.moved(self.target)
        vector = place.b.load(place.memory["source"], source.within(self.source), place.lanes)
        if self.copies:
            place.b.store(place.memory[RESULT], target.within(self.store.plane), vector, place.lanes)
            return
        vector = numbers_in(vector, place.lanes, self.source.dtype, self.zero_point)
        self.store.write(place, run_stages(self.stages, place, vector, position), target)
