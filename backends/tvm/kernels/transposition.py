"""Copies between orders of axes of which another one is contiguous in the result than in the source.

    result[…, i, j] = stages(source[…, i, j] - zero-point)      i contiguous in the source, j in the result

A block of as many i as j passes through registers: its rows are loaded along i, transposed by log₂ rounds of exchanging
halves (Eklundh's method), and stored along j, so that memory is touched in whole vectors on both sides. What is left of
whole blocks is gathered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.pieces import chosen, chunks, each_piece, halvings, pieces
from graphpress.backends.tvm.kernels.stages import StageContext
from graphpress.backends.tvm.kernels.view_copy import ViewCopy


@dataclass(frozen=True)
class Transposition(ViewCopy):
    """A copy of which the last axis is contiguous in the result, and the last but one in the source.

    Args:
        extents: of the axes.
        source: what it reads.
        result: what it writes.
        stages: what happens on the way.
    """

    def block(self, isa: Isa) -> int:
        """Rows and columns of a block: a vector, or the power of two that fits the axes."""
        return min(isa.lanes, *(1 << extent.bit_length() - 1 for extent in self.extents[-2:]))

    def tasks(self, isa: Isa) -> int:
        """A task is a row of blocks."""
        return math.prod(map(int, self.task_grid(isa)))

    def task_grid(self, isa: Isa) -> tuple[int, ...]:
        """All axes but the last two, and rows of blocks."""
        return *self.extents[:-2], pieces(self.extents[-2], self.block(isa))

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All blocks of one row."""
        size = self.block(isa)
        columns = pieces(self.extents[-2], size)
        piece = b.let(task % columns)
        source, result = self.starts(b, b.let(task // columns), len(self.extents) - 2)
        at = b.let(source + piece * size), b.let(result + piece * (size * self.result.steps[-2]))
        place = StageContext(b, isa, memory, size)
        for part in chunks(self.extents[-2], size):
            with chosen(b, piece, part, self.extents[-2], size):
                for run in chunks(self.extents[-1], size):
                    with each_piece(b, self.extents[-1], run, "block") as number:
                        first = b.let(run.start + number * run.size)
                        inside = b.let(at[0] + first * self.source.steps[-1]), b.let(at[1] + first)
                        whole = part.size == run.size == size
                        (self._transposed if whole else self._gathered)(place, inside, part.size, run.size)

    def _transposed(self, place: StageContext, at: tuple[Expr, Expr], rows: int, columns: int) -> None:
        """A whole block, through registers."""
        source = place.memory["source"]
        loaded = [place.b.load(source, at[0] + row * self.source.steps[-1], rows) for row in range(columns)]
        for row, vector in enumerate(transposed_vectors(place.b, loaded)):
            self.write(place, vector, at[1] + row * self.result.steps[-2])

    def _gathered(self, place: StageContext, at: tuple[Expr, Expr], rows: int, columns: int) -> None:
        """A block that is not whole, row by row of the result."""
        b = place.b
        with b.loop(rows, "row") as row:
            for chunk in halvings(columns, place.lanes):
                part = StageContext(b, place.isa, place.memory, chunk.size)
                with b.loop(chunk.pieces, "vector") as number:
                    first = chunk.start + number * chunk.size
                    source = at[0] + row + first * self.source.steps[-1]
                    vector = b.load(place.memory["source"], source, chunk.size, self.source.steps[-1])
                    self.write(part, vector, at[1] + row * self.result.steps[-2] + first)


def transposed_vectors(b: KernelBuilder, rows: Sequence[Expr]) -> list[Expr]:
    """As many vectors as each has lanes, transposed: in each round, halves of ever smaller squares change places.

    Args:
        b: takes the statements.
        rows: a power of two of vectors.
    """
    vectors, lanes = [b.let(row) for row in rows], len(rows)
    distance = lanes // 2
    while distance:
        low = [tirx.const(lane if not lane & distance else lane - distance + lanes, "int32") for lane in range(lanes)]
        high = [tirx.const(lane + distance if not lane & distance else lane + lanes, "int32") for lane in range(lanes)]
        for first in (row for row in range(lanes) if not row & distance):
            pair = [vectors[first], vectors[first + distance]]
            vectors[first] = b.let(tirx.Shuffle(pair, low))
            vectors[first + distance] = b.let(tirx.Shuffle(pair, high))
        distance //= 2
    return vectors
