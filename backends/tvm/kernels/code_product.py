"""Products of two activations in codes: a matrix by a matrix for every coordinate of the leading axes, in integers.

    result[…, m, n] = stages(Σ over k of (left[…, m, k] - za) · (right[…, k, n] - zb))
                    = stages(start[…, n] + Σ over k of left[…, m, k] · right[…, k, n] - zb · Σ over k of left[…, m, k])

with the dot instructions of the processor. The right factor is packed at run time, with where sums begin
(``CodePacking``); the left one is read as it lies. Its rows are summed along with the products, where the zero-point zb
is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.dots import GROUP
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat, typed
from graphpress.backends.tvm.kernels.batched_product import VECTOR, batch_offset
from graphpress.backends.tvm.kernels.code_packing import PACKED
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import chosen, chunks, pieces
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorRun,
    VectorStage,
    operands_of,
    run_stages,
)
from graphpress.backends.tvm.kernels.view import StridedView

ROWS = 6
"""Of a tile, where registers suffice."""


@dataclass(frozen=True)
class CodeProduct:
    """An integer matrix product for each coordinate of the leading axes.

    Args:
        left: codes ``[…, rows, depth]``; those of a row follow each other.
        right: what ``CodePacking`` makes, ``[…, blocks, groups]``.
        store: what it writes; pixels are the rows, channels the columns, rows of pixels the last leading axis.
        leading: extents of the leading axes of the result.
        depth: products of a sum.
        zero_point: of what is packed.
        stages: between sum and result.
    """

    left: StridedView
    right: StridedView
    store: Destination
    leading: tuple[int, ...]
    depth: int
    zero_point: int
    stages: tuple[VectorStage, ...] = ()

    integer: ClassVar[bool] = True

    @property
    def operands(self) -> Sequence[Pointer]:
        """Both factors, what the stages read, and the result."""
        fixed = [Pointer("left", self.left.dtype), Pointer("right", PACKED)]
        return [*fixed, *operands_of(self.stages), Pointer(RESULT, self.store.plane.dtype)]

    @property
    def slack(self) -> int:
        """Four codes begin at the last of a row."""
        return VECTOR

    def tile(self, isa: Isa) -> tuple[int, int]:
        """Rows and vectors whose sums fit the registers, with those of the rows, the factors and a number beside."""
        sums = isa.dot.partial
        rows = min(ROWS if isa.registers > 16 else ROWS // 2, self.store.plane.width)
        beside = rows * sums if self.zero_point else 0
        vectors = max(1, (isa.registers - 2 - beside) // (rows * sums + 1))
        return rows, min(vectors, pieces(self.store.plane.channels, isa.lanes))

    def tasks(self, isa: Isa) -> int:
        """A task is a tile of rows of one matrix."""
        return math.prod(self.leading) * pieces(self.store.plane.width, self.tile(isa)[0])

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All columns of a tile of rows."""
        plane, (most, vectors) = self.store.plane, self.tile(isa)
        tiles = pieces(plane.width, most)
        tile, matrix = b.let(task % tiles), b.let(task // tiles)
        for rows in chunks(plane.width, most):
            with chosen(b, tile, rows, plane.width, most):
                first = b.let(tile * most)
                corner = Position(b.let(matrix // plane.height), b.let(matrix % plane.height), first, 0)
                left, right = (b.let(batch_offset(view, matrix, self.leading)) for view in (self.left, self.right))
                row = b.let(left + first * self.left.steps[-2])
                writer = _CodeTile(self, StageContext(b, isa, memory, isa.lanes), rows.size, (row, right))
                writer.write(corner, vectors)


class _CodeTile:
    """Writes the code of a tile of rows.

    Args:
        product: what is computed.
        place: where to.
        rows: of the tile.
        at: where the first row of the left factor begins, and the matrix of the right one.
    """

    def __init__(self, product: CodeProduct, place: StageContext, rows: int, at: tuple[Expr, Expr]) -> None:
        self.product, self.place, self.b, self.rows = product, place, place.b, rows
        self.row, self.matrix = at
        self.lanes, self.dot = place.lanes, place.isa.dot
        self.width = self.lanes * self.dot.partial

    def write(self, corner: Position, vectors: int) -> None:
        """Block by block of columns."""
        for block in chunks(pieces(self.product.store.plane.channels, self.lanes), vectors):
            with self.b.loop(block.pieces, "block") as number:
                self._block(corner, self.b.let(block.start + number * block.size), block.size)

    def _block(self, corner: Position, first: Expr, vectors: int) -> None:
        b, groups = self.b, self.product.depth // GROUP
        at = b.let(self.matrix + first * self.product.right.steps[-2])
        sums = b.registers(self.rows * vectors * self.width, "int32")
        row_sums = b.registers(self.rows * self.width, "int32")
        self._start(sums, row_sums, at, vectors)
        with b.loop(groups, "group") as group:
            self._step(sums, row_sums, at, vectors, group, GROUP)
        if self.product.depth % GROUP:
            self._step(sums, row_sums, at, vectors, groups, self.product.depth % GROUP)
        runs = []
        for row in range(self.rows):
            position = Position(corner.image, corner.y, corner.x + row, first * self.lanes)
            results = [self._result(sums, row_sums, row, vectors, vector, position) for vector in range(vectors)]
            runs.append(VectorRun(position, results))
        self.product.store.write_all(self.place, runs)

    def _start(self, sums: Memory, row_sums: Memory, at: Expr, vectors: int) -> None:
        """Where sums begin: as the last group of each block has it, and at zero."""
        b, lanes = self.b, self.lanes
        last = pieces(self.product.depth, GROUP) * self.product.right.steps[-1]
        for vector in range(vectors):
            place = at + vector * self.product.right.steps[-2] + last
            start = tirx.reinterpret(typed("int32", lanes), self._packed(place))
            begun = b.let(self.dot.start(start, lanes))
            for row in range(self.rows):
                b.store(sums, (row * vectors + vector) * self.width, begun, self.width)
        for row in range(self.rows):
            b.store(row_sums, row * self.width, splat(0, self.width, "int32"), self.width)

    def _step(self, sums: Memory, row_sums: Memory, at: Expr, vectors: int, group: Expr, valid: int) -> None:
        """Four codes of each row by those of all columns; fewer at the end, where zeros were packed."""
        b, product = self.b, self.product
        steps = product.right.steps
        factors = [b.let(self._packed(at + vector * steps[-2] + group * steps[-1])) for vector in range(vectors)]
        ones = splat((1 << 8 * valid) // 255, self.lanes, "int32")
        for row in range(self.rows):
            place = self.row + row * product.left.steps[-2] + group * GROUP
            (codes,) = self.dot.operands(b, self.place.memory["left"], place, 1)
            for vector, factor in enumerate(factors):
                self._add(sums, (row * vectors + vector) * self.width, codes, factor)
            if product.zero_point:
                self._add(row_sums, row * self.width, codes, tirx.reinterpret(typed(PACKED, GROUP * self.lanes), ones))

    def _add(self, sums: Memory, place: int, codes: Expr, factor: Expr) -> None:
        total = self.dot.multiply(self.b.load(sums, place, self.width), codes, factor, self.lanes)
        self.b.store(sums, place, total, self.width)

    def _result(self, sums: Memory, row_sums: Memory, row: int, vectors: int, vector: int, position: Position) -> Expr:
        b, lanes = self.b, self.lanes
        total = self.dot.total(b.load(sums, (row * vectors + vector) * self.width, self.width), lanes)
        if self.product.zero_point:
            of_row = self.dot.total(b.load(row_sums, row * self.width, self.width), lanes)
            total = total - of_row * splat(self.product.zero_point, lanes, "int32")
        numbers = total.astype(typed(FLOAT, lanes))
        return run_stages(self.product.stages, self.place, numbers, position.moved(vector * lanes))

    def _packed(self, place: Expr) -> Expr:
        return self.b.load(self.place.memory["right"], place, GROUP * self.lanes)
