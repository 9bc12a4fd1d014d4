"""Rows of a table by their numbers: embeddings.

    result[…, i, :] = stages((table[index[…, i], :] - zero_point) · scale[index[…, i], block])

A negative number counts from the end, as in ONNX. Numbers come from the caller: one beyond the table reads its first or
its last row, so that no memory but the table's is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import halvings
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorStage,
    numbers_in,
    operands_of,
    run_stages,
)


@dataclass(frozen=True)
class GatherRows:
    """Rows of a constant table.

    Args:
        rows: of the table.
        store: what it writes; a pixel is a row of the table.
        dtype: type of the table's elements, by numpy's name.
        index: type of the numbers of rows.
        zero_point: of the table's codes.
        stages: after it.
        block: elements of a row that share a scale; they divide it. 0 where there are no scales.
    """

    rows: int
    store: Destination
    dtype: str = FLOAT
    index: str = "int64"
    zero_point: int = 0
    stages: tuple[VectorStage, ...] = ()
    block: int = 0
    takes_open: ClassVar[bool] = True

    @property
    def operands(self) -> Sequence[Pointer]:
        """The table, its scales, the numbers, what the stages read, and the result."""
        scales = [Pointer("scales_of_rows", FLOAT)] if self.block else []
        fixed = [Pointer("table", self.dtype), *scales, Pointer("indices", self.index)]
        return [*fixed, *operands_of(self.stages), Pointer(RESULT, self.store.plane.dtype)]

    def tasks(self, isa: Isa) -> int:
        """A task is a pixel of the result."""
        return int(self.store.plane.height * self.store.plane.width)

    def task_grid(self, isa: Isa) -> tuple[int, int]:
        """Rows and pixels."""
        return self.store.plane.height, self.store.plane.width

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """The channels of one row."""
        plane = self.store.plane
        image, pixel = b.let(task // self.tasks(isa)), b.let(task % self.tasks(isa))
        row, block = self._row(b, b.load(memory["indices"], task)), self.block or plane.channels
        start = Position(image, b.let(pixel // plane.width), b.let(pixel % plane.width), 0)
        blocks = plane.channels // block
        with b.loop(blocks, "block") as number:
            scale = b.let(b.load(memory["scales_of_rows"], row * blocks + number)) if self.block else None
            for chunk in halvings(block, isa.lanes):
                place = StageContext(b, isa, memory, chunk.size)
                with b.loop(chunk.pieces, "vector") as vector:
                    position = start.moved(b.let(number * block + chunk.start + vector * chunk.size))
                    value = self._numbers(place, row, position.channel, scale)
                    self.store.write(place, run_stages(self.stages, place, value, position), position)

    def _numbers(self, place: StageContext, row: Expr, channel: Expr, scale: Expr | None) -> Expr:
        """A vector of a row, times its scale where there is one."""
        value = place.b.load(place.memory["table"], row * self.store.plane.channels + channel, place.lanes)
        value = numbers_in(value, place.lanes, self.dtype, self.zero_point)
        return value if scale is None else value * splat(scale, place.lanes)

    def _row(self, b: KernelBuilder, number: Expr) -> Expr:
        """The row of a number, within the table."""
        number = b.let(number)
        rows, nothing = tirx.const(self.rows, self.index), tirx.const(0, self.index)
        counted = b.let(tirx.Select(number < nothing, number + rows, number))
        bounded = tirx.max(tirx.min(counted, rows - tirx.const(1, self.index)), nothing)
        return b.let(bounded.astype("int32"))
