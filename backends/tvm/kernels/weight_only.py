"""Matrix products whose weights are integers of four or eight bits, and whose activations are floats.

    result[m, n] = stages(bias[n] + Σ over blocks of k:  scale[block, n] · Σ in the block of  x[m, k] · q[k, n])

With few rows such a product waits for its weights, so that they are read once, in the order in which they lie, and
become floats in registers: a word of 32 bits holds eight codes of one output (or a byte one), and where the processor
has an instruction for it, a table of sixteen floats turns codes into numbers. The arithmetic is that of floats: nothing
is rounded but sums. Several rows share what was unpacked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat, typed
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import chosen, chunks, pieces
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorStage,
    operands_of,
    run_stages,
)

NIBBLES = 8
"""Codes of four bits in a word."""
AHEAD = 4096
"""Bytes by which weights are asked for before they are read."""


@dataclass(frozen=True)
class WeightOnlyProduct:
    """A matrix product with integer weights.

    Args:
        source: floats; its pixels are the rows, its channels the inputs.
        store: what it writes.
        bits: of a code, 4 or 8; in two's complement.
        block: inputs that share a scale; they divide the inputs, and are whole words.
        stages: between sums and result.
        rows: that are computed at a time.
        vectors: of outputs that are computed at a time.
    """

    source: Plane
    store: Destination
    bits: int
    block: int
    stages: tuple[VectorStage, ...] = ()
    rows: int = 1
    vectors: int = 4

    @property
    def step(self) -> int:
        """Inputs whose codes are loaded at once."""
        return NIBBLES if self.bits == 4 else 1

    @property
    def element(self) -> str:
        """Type of what holds them."""
        return "int32" if self.bits == 4 else "int8"

    @property
    def operands(self) -> Sequence[Pointer]:
        """Source, weights, scales, biases, what the stages read, and the result."""
        fixed = [Pointer("source", FLOAT), Pointer("weights", self.element), Pointer("scales_of_blocks", FLOAT)]
        return [*fixed, Pointer("bias", FLOAT), *operands_of(self.stages), Pointer(RESULT, self.store.plane.dtype)]

    def total_vectors(self, isa: Isa) -> int:
        """Vectors of outputs."""
        return pieces(self.store.plane.channels, isa.lanes)

    def tasks(self, isa: Isa) -> int:
        """A task is a block of outputs, of a line of rows."""
        return pieces(self.total_vectors(isa), self.vectors) * self.source.height

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All rows of the line, for one block of outputs."""
        height, width, total = self.source.height, self.source.width, self.total_vectors(isa)
        image, inside = b.let(task // self.tasks(isa)), b.let(task % self.tasks(isa))
        block, y = b.let(inside // height), b.let(inside % height)
        for outputs in chunks(total, self.vectors):
            with chosen(b, block, outputs, total, self.vectors):
                for rows in chunks(width, self.rows):
                    with b.loop(rows.pieces, "rows") as piece:
                        x = rows.start + piece * rows.size
                        corner = Position(image, y, x, block * (self.vectors * isa.lanes))
                        _RowsWriter(self, StageContext(b, isa, memory, isa.lanes), (rows.size, outputs.size)).write(
                            corner
                        )


class _RowsWriter:
    """Writes the code of some rows of a block of outputs.

    Args:
        product: what is computed.
        place: where.
        size: rows and vectors.
    """

    def __init__(self, product: WeightOnlyProduct, place: StageContext, size: tuple[int, int]) -> None:
        self.product, self.place, self.b = product, place, place.b
        self.lanes, self.isa = place.lanes, place.isa
        self.rows, self.vectors = size

    def write(self, corner: Position) -> None:
        """Sums of blocks, scaled into totals, then stages."""
        b, product, lanes = self.b, self.product, self.lanes
        totals = b.registers(self.rows * self.vectors * lanes, FLOAT)
        for row, vector in self._sums():
            bias = b.load(self.place.memory["bias"], corner.channel + vector * lanes, lanes)
            b.store(totals, self._sum(row, vector), bias, lanes)
        blocks = product.source.channels // product.block
        start = b.let(corner.image * product.source.size + product.source.at(corner.y, corner.x))
        with b.loop(blocks, "block") as block:
            first = b.let(corner.channel * blocks + block * (self.vectors * lanes))
            self._add_block(totals, start + block * product.block, first)
        for row, vector in self._sums():
            at = Position(corner.image, corner.y, corner.x + row, corner.channel + vector * lanes)
            total = b.load(totals, self._sum(row, vector), lanes)
            product.store.write(self.place, run_stages(product.stages, self.place, total, at), at)

    def _sums(self) -> Iterator[tuple[int, int]]:
        return ((row, vector) for row in range(self.rows) for vector in range(self.vectors))

    def _sum(self, row: int, vector: int) -> int:
        """Where a sum lies among the registers."""
        return (row * self.vectors + vector) * self.lanes

    def _add_block(self, totals: Memory, start: Expr, first: Expr) -> None:
        """Add a block of inputs to the totals.

        Args:
            totals: of the rows.
            start: where the block begins in the first row.
            first: its first scale.
        """
        b, product, lanes = self.b, self.product, self.lanes
        sums = b.registers(self.rows * self.vectors * lanes, FLOAT)
        for row, vector in self._sums():
            b.store(sums, self._sum(row, vector), splat(0.0, lanes), lanes)
        steps = product.block // product.step
        begin = b.let(first * steps)
        with b.loop(steps, "step") as step:
            self._step(sums, b.let(start + step * product.step), b.let(begin + step * (self.vectors * lanes)))
        for vector in range(self.vectors):
            scale = b.let(b.load(self.place.memory["scales_of_blocks"], first + vector * lanes, lanes))
            for row in range(self.rows):
                where = self._sum(row, vector)
                b.store(totals, where, b.load(totals, where, lanes) + b.load(sums, where, lanes) * scale, lanes)

    def _step(self, sums: Memory, source: Expr, weights: Expr) -> None:
        """Add the inputs whose codes lie in one word, or byte."""
        b, lanes, memory = self.b, self.lanes, self.place.memory["weights"]
        size = np.dtype(self.product.element).itemsize
        words = [b.let(b.load(memory, weights + vector * lanes, lanes)) for vector in range(self.vectors)]
        for ahead in range(0, self.vectors * lanes * size, 64):
            b.prefetch(memory, weights + (AHEAD + ahead) // size)
        for place in range(self.product.step):
            numbers = [b.let(self._numbers(word, place)) for word in words]
            for row in range(self.rows):
                offset = source + row * self.product.source.stride + place
                element = b.let(splat(b.load(self.place.memory["source"], offset), lanes))
                for vector, number in enumerate(numbers):
                    where = self._sum(row, vector)
                    b.store(sums, where, b.load(sums, where, lanes) + element * number, lanes)

    def _numbers(self, words: Expr, place: int) -> Expr:
        """The codes at a place of the words as floats."""
        lanes = self.lanes
        if self.product.bits == 8:
            return words.astype(typed("int32", lanes)).astype(typed(FLOAT, lanes))
        if self.isa.lookup:
            shifted = words >> splat(4 * place, lanes, "int32") if place else words
            return tirx.call_llvm_pure_intrin(typed(FLOAT, lanes), self.isa.lookup, _table(lanes), shifted)
        raised = words << splat(28 - 4 * place, lanes, "int32") if place < NIBBLES - 1 else words
        return (raised >> splat(28, lanes, "int32")).astype(typed(FLOAT, lanes))


def _table(lanes: int) -> Expr:
    """The numbers that the codes of four bits are."""
    code = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), lanes)
    signed = tirx.Select(code < splat(8, lanes, "int32"), code, code - splat(16, lanes, "int32"))
    return signed.astype(typed(FLOAT, lanes))


def packed_codes(product: WeightOnlyProduct, codes: np.ndarray, isa: Isa) -> np.ndarray:
    """Codes in the order in which they are read.

    Args:
        product: the kernel that reads them.
        codes: int8 ``[inputs, outputs]``.
        isa: the instruction set.

    Returns:
        Per block of outputs ``[words of inputs, outputs]``, flat.
    """
    inputs, outputs = codes.shape
    filled = np.zeros((inputs, whole_vectors(outputs, isa.lanes)), np.int8)
    filled[:, :outputs] = codes
    if product.bits == 4:
        nibbles = (filled.view(np.uint8) & 15).astype(np.uint32).reshape(-1, NIBBLES, filled.shape[1])
        shifts = np.arange(0, 32, 4, dtype=np.uint32)[:, None]
        filled = np.bitwise_or.reduce(nibbles << shifts, axis=1).view(np.int32)
    return _by_block(product, filled, isa)


def packed_scales(product: WeightOnlyProduct, scales: np.ndarray, isa: Isa) -> np.ndarray:
    """Scales ``[blocks of inputs, outputs]`` in the order in which they are read."""
    filled = np.zeros((scales.shape[0], whole_vectors(scales.shape[1], isa.lanes)), np.float32)
    filled[:, : scales.shape[1]] = scales
    return _by_block(product, filled, isa)


def _by_block(product: WeightOnlyProduct, rows: np.ndarray, isa: Isa) -> np.ndarray:
    width = product.vectors * isa.lanes
    starts = range(0, rows.shape[1], width)
    return np.concatenate([np.ascontiguousarray(rows[:, start : start + width]).ravel() for start in starts])
