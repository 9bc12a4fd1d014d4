"""Products of two activations: a matrix by a matrix for every coordinate of the leading axes.

    result[…, m, n] = stages(Σ over k of left[…, m, k] · right[…, k, n])

The leading axes broadcast: a step of 0 reads the same matrix again. The right matrix is read as it lies, its columns in
vectors; what lies behind its last column only reaches what lies behind the result's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import chosen, chunks, chunks_of_run, each_piece, pieces
from graphpress.backends.tvm.kernels.register_tile import ROWS, RegisterTile, vectors_beside
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorStage,
    operands_of,
    run_stages,
)
from graphpress.backends.tvm.kernels.view import StridedView

UNROLL = 4
"""Steps of a reduction that are written out."""
VECTOR = 64
"""Bytes of the widest vector."""


@dataclass(frozen=True)
class BatchedProduct:
    """A matrix product for each coordinate of the leading axes.

    Args:
        left: floats ``[…, rows, depth]``.
        right: floats ``[…, depth, columns]``; columns follow each other.
        store: what it writes; pixels are the rows, channels the columns, rows of pixels the last leading axis.
        leading: extents of the leading axes of the result.
        depth: products of a sum.
        stages: between sum and result.
    """

    left: StridedView
    right: StridedView
    store: Destination
    leading: tuple[int, ...]
    depth: int
    stages: tuple[VectorStage, ...] = ()
    takes_open: ClassVar[bool] = True

    @property
    def operands(self) -> Sequence[Pointer]:
        """Both factors, what the stages read, and the result."""
        fixed = [Pointer("left", FLOAT), Pointer("right", FLOAT)]
        return [*fixed, *operands_of(self.stages), Pointer(RESULT, self.store.plane.dtype)]

    @property
    def slack(self) -> int:
        """A vector begins at the last column."""
        return VECTOR

    @property
    def rows(self) -> int:
        """Of a tile."""
        return int(min(ROWS, self.store.plane.width))

    @property
    def row_tiles(self) -> int:
        """Tiles from the first row of a matrix to the last."""
        return pieces(self.store.plane.width, self.rows)

    def tasks(self, isa: Isa) -> int:
        """A task is a tile of rows of one matrix."""
        return math.prod(map(int, self.task_grid(isa)))

    def task_grid(self, isa: Isa) -> tuple[int, ...]:
        """Leading axes, and tiles of rows."""
        return *self.leading, self.row_tiles

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All columns of a tile of rows."""
        tile, matrix = b.let(task % self.row_tiles), b.let(task // self.row_tiles)
        plane = self.store.plane
        for rows in chunks(plane.width, self.rows):
            with chosen(b, tile, rows, plane.width, self.rows):
                first = b.let(tile * self.rows)
                corner = Position(b.let(matrix // plane.height), b.let(matrix % plane.height), first, 0)
                at = {
                    name: b.let(batch_offset(view, matrix, self.leading))
                    for name, view in (("left", self.left), ("right", self.right))
                }
                _RowTile(self, StageContext(b, isa, memory, isa.lanes), rows.size, at).write(corner)


class _RowTile:
    """Writes the code of a tile of rows.

    Args:
        product: what is computed.
        place: where to.
        rows: of the tile.
        at: where the matrices begin.
    """

    def __init__(self, product: BatchedProduct, place: StageContext, rows: int, at: dict[str, Expr]) -> None:
        self.product, self.place, self.b, self.rows, self.at = product, place, place.b, rows, at

    def write(self, corner: Position) -> None:
        """Block by block of columns."""
        lanes = self.place.lanes
        width = vectors_beside(self.place.isa)
        vectors = pieces(self.product.store.plane.channels, lanes)
        for block in chunks(vectors, width):
            with each_piece(self.b, vectors, block, "block") as number:
                column = self.b.let((block.start + number * block.size) * lanes)
                self._tile(corner.moved(column), block.size)

    def _tile(self, corner: Position, vectors: int) -> None:
        product, b, lanes = self.product, self.b, self.place.lanes
        sums = RegisterTile(b, self.rows, vectors, lanes)
        row = b.let(self.at["left"] + corner.x * product.left.steps[-2])
        for run in chunks_of_run(b, product.depth, UNROLL, 1):
            with b.loop(run.pieces, "step") as number:
                for offset in range(run.size):
                    self._step(sums, row, corner.channel, run.start + number * run.size + offset)
        for number, vector in sums.places():
            position = Position(corner.image, corner.y, corner.x + number, corner.channel + vector * lanes)
            result = run_stages(product.stages, self.place, sums.sum(number, vector), position)
            product.store.write(self.place, result, position)

    def _step(self, sums: RegisterTile, row: Expr, column: Expr, depth: Expr) -> None:
        left, right = self.product.left, self.product.right
        memory, b = self.place.memory, self.b
        at_left = row + depth * left.steps[-1]
        at_right = b.let(self.at["right"] + depth * right.steps[-2] + column)
        sums.add(
            lambda number: b.load(memory["left"], at_left + number * left.steps[-2]),
            lambda vector: b.load(memory["right"], at_right + vector * sums.lanes, sums.lanes),
        )


def batch_offset(view: StridedView, matrix: Expr, leading: Sequence[int]) -> Expr:
    """Where a matrix begins, given its number among all images' matrices.

    Args:
        view: whose first axes are the leading ones.
        matrix: its number.
        leading: extents of the leading axes.
    """
    total = int(math.prod(leading))
    offset, rest = matrix // total * view.size + view.start, matrix % total
    for extent, step in zip(reversed(leading), reversed(view.steps[: len(leading)]), strict=True):
        offset, rest = offset + rest % extent * step, rest // extent
    return offset
