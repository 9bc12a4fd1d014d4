"""Rows of a table by their numbers: embeddings.

    result[…, i, :] = stages(table[index[…, i], :] - zero_point)

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
from graphpress.backends.tvm.codegen.vectors import FLOAT
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
    """

    rows: int
    store: Destination
    dtype: str = FLOAT
    index: str = "int64"
    zero_point: int = 0
    stages: tuple[VectorStage, ...] = ()
    takes_open: ClassVar[bool] = True

    @property
    def operands(self) -> Sequence[Pointer]:
        """The table, the numbers, what the stages read, and the result."""
        fixed = [Pointer("table", self.dtype), Pointer("indices", self.index)]
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
        row = b.let(self._row(b, b.load(memory["indices"], task)) * plane.channels)
        for chunk in halvings(plane.channels, isa.lanes):
            place = StageContext(b, isa, memory, chunk.size)
            with b.loop(chunk.pieces, "vector") as vector:
                channel = b.let(chunk.start + vector * chunk.size)
                position = Position(image, pixel // plane.width, pixel % plane.width, channel)
                value = b.load(memory["table"], row + channel, chunk.size)
                value = numbers_in(value, chunk.size, self.dtype, self.zero_point)
                self.store.write(place, run_stages(self.stages, place, value, position), position)

    def _row(self, b: KernelBuilder, number: Expr) -> Expr:
        """The row of a number, within the table."""
        number = b.let(number)
        rows, nothing = tirx.const(self.rows, self.index), tirx.const(0, self.index)
        counted = b.let(tirx.Select(number < nothing, number + rows, number))
        bounded = tirx.max(tirx.min(counted, rows - tirx.const(1, self.index)), nothing)
        return b.let(bounded.astype("int32"))
