"""The right factor of a product of two activations in codes, as ``CodeProduct`` multiplies it.

    packed[…, block, k / 4, n, 4] = right[…, k, n]     as int8: codes without a sign less 128; zeros behind the last k
    packed[…, block, last]        = depth · za · zb - za · Σ over k of packed[…, k, n]     an int32 for each column n

with the zero-points za of the left factor and zb of what is packed: where sums begin, and what is left of the product
of the numbers that codes stand for is zb times the sums of the left factor's rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.dots import GROUP
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import picked, splat, typed
from graphpress.backends.tvm.kernels.batched_product import VECTOR, batch_offset
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import pieces
from graphpress.backends.tvm.kernels.stages import RESULT
from graphpress.backends.tvm.kernels.view import StridedView

PACKED = "int8"
"""Type of what is packed."""
SIGN = {"uint8": 128, "int8": 0}
"""What codes of a type are more than what is packed of them."""


@dataclass(frozen=True)
class CodePacking:
    """Brings matrices of codes into the order in which products read them.

    Args:
        right: codes ``[…, depth, columns]``; those of a row or those of a column follow each other.
        leading: extents of the leading axes.
        depth: rows of a matrix.
        columns: of a matrix.
        zero_point: of the left factor, with which the matrices will be multiplied.
    """

    right: StridedView
    leading: tuple[int, ...]
    depth: int
    columns: int
    zero_point: int

    @property
    def operands(self) -> Sequence[Pointer]:
        """The matrices, and what is packed."""
        return [Pointer("right", self.right.dtype), Pointer(RESULT, PACKED)]

    @property
    def slack(self) -> int:
        """A vector begins at the last column, and four codes at the last of a column."""
        return VECTOR

    @property
    def groups(self) -> int:
        """Steps of a product."""
        return pieces(self.depth, GROUP)

    @property
    def packed_zero_point(self) -> int:
        """Of what is packed."""
        return self.right.zero_point - SIGN[self.right.dtype]

    def packed(self, lanes: int) -> StridedView:
        """Where blocks of so many columns lie: ``[leading…, blocks, groups]``; behind the last group are the sums."""
        group = GROUP * lanes
        steps, step = [group, (self.groups + 1) * group], (self.groups + 1) * group * pieces(self.columns, lanes)
        for extent in reversed(self.leading):
            steps.append(step)
            step *= extent
        return StridedView(0, tuple(reversed(steps)), step, PACKED)

    def tasks(self, isa: Isa) -> int:
        """A task is a block of columns of one matrix."""
        return math.prod(self.leading) * pieces(self.columns, isa.lanes)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """Group by group, then the sums."""
        lanes, blocks = isa.lanes, pieces(self.columns, isa.lanes)
        source = b.let(batch_offset(self.right, b.let(task // blocks), self.leading))
        column = b.let(task % blocks * lanes)
        target = b.let(task * ((self.groups + 1) * GROUP * lanes))
        sums = b.registers(lanes, "int32")
        b.store(sums, 0, splat(0, lanes, "int32"), lanes)
        writer = _GroupWriter(self, b, isa, memory, (source, column, target))
        whole = self.depth // GROUP
        with b.loop(whole, "group") as group:
            writer.write(sums, group, GROUP)
        if self.depth % GROUP:
            writer.write(sums, whole, self.depth % GROUP)
        total = b.load(sums, 0, lanes) * splat(-self.zero_point, lanes, "int32")
        fixed = self.depth * self.zero_point * self.packed_zero_point
        start = tirx.reinterpret(typed(PACKED, GROUP * lanes), total + splat(fixed, lanes, "int32"))
        b.store(memory[RESULT], target + self.groups * GROUP * lanes, start, GROUP * lanes)


class _GroupWriter:
    """Writes the code that packs four rows of a block of columns.

    Args:
        packing: what is done.
        b: takes the statements.
        isa: the instruction set.
        memory: what the operands point to.
        places: where the matrix begins, the first column, where the block begins.
    """

    def __init__(
        self, packing: CodePacking, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], places: tuple[Expr, ...]
    ) -> None:
        self.packing, self.b, self.isa, self.memory = packing, b, isa, memory
        self.source, self.column, self.target = places

    def write(self, sums: Memory, group: Expr, rows: int) -> None:
        """Pack some rows, zeros below them, and add them to the sums of columns."""
        b, lanes = self.b, self.isa.lanes
        down, across = self.packing.right.steps[-2:]
        first = b.let(self.source + group * (GROUP * down))
        words = self._rows(first, rows) if across == 1 else self._columns(first, rows)
        packed = b.let(tirx.reinterpret(typed(PACKED, GROUP * lanes), words))
        b.store(self.memory[RESULT], self.target + group * (GROUP * lanes), packed, GROUP * lanes)
        ones = tirx.reinterpret(typed(PACKED, GROUP * lanes), splat(0x01010101, lanes, "int32"))
        b.store(sums, 0, self.isa.dot.products(b.load(sums, 0, lanes), ones, packed, lanes), lanes)

    def _rows(self, first: Expr, rows: int) -> Expr:
        """Of rows whose codes follow each other: those of a column brought together; as 32-bit numbers."""
        b, lanes, right = self.b, self.isa.lanes, self.packing.right
        loaded = [b.let(b.load(self.memory["right"], first + row * right.steps[-2] + self.column, lanes))
                  for row in range(rows)]  # fmt: skip
        loaded += [splat(0, lanes, right.dtype)] * (GROUP - rows)
        zipped = picked(loaded, [row * lanes + lane for lane in range(lanes) for row in range(GROUP)])
        return self._signed(tirx.reinterpret(typed("int32", lanes), zipped), rows)

    def _columns(self, first: Expr, rows: int) -> Expr:
        """Of columns whose codes follow each other: four at a time; beyond the last column, the last again."""
        b, lanes, packing = self.b, self.isa.lanes, self.packing
        words = b.registers(lanes, "int32")
        for lane in range(lanes):
            column = tirx.min(self.column + lane, packing.columns - 1)
            codes = b.load(self.memory["right"], first + column * packing.right.steps[-1], GROUP)
            b.store(words, lane, tirx.reinterpret("int32", codes))
        return self._signed(b.load(words, 0, lanes), rows)

    def _signed(self, words: Expr, rows: int) -> Expr:
        """Codes as int8, zeros below the last row."""
        lanes = self.isa.lanes
        if SIGN[self.packing.right.dtype]:
            words = words ^ splat(tirx.const(-0x7F7F7F80, "int32"), lanes)
        return words if rows == GROUP else words & splat(tirx.const((1 << 8 * rows) - 1, "int32"), lanes)
