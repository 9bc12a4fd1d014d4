"""Matrix products whose weights are integers of four or eight bits, and whose activations are not.

    result[m, n] = stages(bias[n] + Σ over blocks of k:  scale[block, n] · Σ in the block of  x[m, k] · (q[k, n] - z))

With few rows such a product waits for its weights, so that they are read once, in the order in which they lie, and
are taken apart in registers: a word of 32 bits holds eight codes of four bits of one output, or codes of eight bits.
Several rows share what was unpacked. How a block is added up depends on what the activations are
(``weight_only_sums``): floats, or codes of eight bits with a scale for each block (``coded_blocks``), as ONNX Runtime's
MatMulNBits has it at accuracy level 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.dots import GROUP
from graphpress.backends.tvm.codegen.extent import is_open
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.coded_blocks import LARGEST_CODE
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import chosen, chunks, each_piece, pieces
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
from graphpress.backends.tvm.kernels.weight_only_sums import NIBBLES, BlockSums, CodeSums, FloatSums, SumsOfRows


@dataclass(frozen=True)
class WeightOnlyProduct:
    """A matrix product with integer weights.

    Args:
        source: floats, or codes of ``CodedBlocks`` (int8); its pixels are the rows, its channels the inputs.
        store: what it writes.
        bits: of a code, 4 or 8.
        block: inputs that share a scale; they divide the inputs, and are whole words.
        stages: between sums and result.
        rows: that are computed at a time.
        vectors: of outputs that are computed at a time.
        zero_points: whether each block of an output has one.
    """

    source: Plane
    store: Destination
    bits: int
    block: int
    stages: tuple[VectorStage, ...] = ()
    rows: int = 1
    vectors: int = 4
    zero_points: bool = False

    @property
    def integer(self) -> bool:
        """Whether codes are multiplied by codes."""
        return self.source.dtype != FLOAT

    @property
    def blocks(self) -> int:
        """Blocks of inputs."""
        return self.source.channels // self.block

    @property
    def takes_open(self) -> bool:
        """Sums are those of all inputs."""
        return not is_open((self.source.channels, self.source.height))

    @property
    def step(self) -> int:
        """Inputs whose codes are loaded at once."""
        if self.bits == 4:
            return NIBBLES
        return GROUP if self.integer else 1

    @property
    def element(self) -> str:
        """Type of what holds them."""
        return "int8" if self.step == 1 else "int32"

    def offset(self, isa: Isa) -> int:
        """What is added to codes in two's complement where they are multiplied unsigned."""
        if not self.integer or (self.bits == 8 and isa.dot.activations != "uint8"):
            return 0
        return 1 << self.bits - 1

    def is_exact(self, isa: Isa) -> bool:
        """Whether the processor adds products of such codes without saturating."""
        unsigned = isa.dot.activations == "uint8"
        return not self.integer or not unsigned or ((1 << self.bits) - 1) * LARGEST_CODE <= 255 * isa.dot.largest_weight

    @property
    def operands(self) -> Sequence[Pointer]:
        """Source, its scales and sums where it is codes, weights, their scales and zero-points, biases, what the stages
        read, and the result.
        """
        coded = [Pointer("source_scales", FLOAT), Pointer("source_sums", "int32")] if self.integer else []
        zeros = [Pointer("zeros_of_blocks", "int8")] if self.zero_points else []
        return [
            Pointer("source", self.source.dtype),
            *coded,
            Pointer("weights", self.element),
            Pointer("scales_of_blocks", FLOAT),
            *zeros,
            Pointer("bias", FLOAT),
            *operands_of(self.stages),
            Pointer(RESULT, self.store.plane.dtype),
        ]

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
                    with each_piece(b, width, rows, "rows") as piece:
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
        self.rows, self.vectors = size

    def write(self, corner: Position) -> None:
        """Sums of blocks, scaled into totals, then stages."""
        b, product, lanes = self.b, self.product, self.place.lanes
        totals = SumsOfRows(b, self.rows, self.vectors, lanes, FLOAT)
        for row, vector in totals.places():
            bias = b.load(self.place.memory["bias"], corner.channel + vector * lanes, lanes)
            totals.set(row, vector, bias)
        sums = self._block_sums(corner)
        with b.loop(product.blocks, "block") as block:
            first = b.let(corner.channel * product.blocks + block * (self.vectors * lanes))
            sums.add(totals, block, first)
        for row, vector in totals.places():
            at = Position(corner.image, corner.y, corner.x + row, corner.channel + vector * lanes)
            total = totals.get(row, vector)
            product.store.write(self.place, run_stages(product.stages, self.place, total, at), at)

    def _block_sums(self, corner: Position) -> BlockSums:
        """How a block is added up."""
        product, isa = self.product, self.place.isa
        start = corner.image * product.source.size + product.source.at(corner.y, corner.x)
        size = self.rows, self.vectors
        if not product.integer:
            return FloatSums(self.place, product, self.b.let(start), size)
        row = (corner.image * product.source.height + corner.y) * product.source.width + corner.x
        first = self.b.let(row * product.blocks)
        return CodeSums(self.place, product, self.b.let(start), size, first, product.offset(isa))


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
    if product.step > 1:
        filled = _words(product, filled, isa)
    return _by_block(product, filled, isa)


def _words(product: WeightOnlyProduct, codes: np.ndarray, isa: Isa) -> np.ndarray:
    """Codes of neighboring inputs as words: from the lowest bits up, or, where words are masked into bytes, those of
    the first four in the low halves.
    """
    masked = product.integer and product.bits == 4
    places = [
        place % GROUP * 8 + place // GROUP * 4 if masked else place * product.bits for place in range(product.step)
    ]
    unsigned = (codes.view(np.uint8) + np.uint8(product.offset(isa))) & np.uint8((1 << product.bits) - 1)
    grouped = unsigned.astype(np.uint32).reshape(-1, product.step, codes.shape[1])
    words: np.ndarray = np.bitwise_or.reduce(grouped << np.array(places, np.uint32)[:, None], axis=1).view(np.int32)
    return words


def packed_by_block(product: WeightOnlyProduct, numbers: np.ndarray, isa: Isa) -> np.ndarray:
    """Scales or zero-points ``[blocks of inputs, outputs]`` in the order in which they are read."""
    filled = np.zeros((numbers.shape[0], whole_vectors(numbers.shape[1], isa.lanes)), numbers.dtype)
    filled[:, : numbers.shape[1]] = numbers
    return _by_block(product, filled, isa)


def _by_block(product: WeightOnlyProduct, rows: np.ndarray, isa: Isa) -> np.ndarray:
    width = product.vectors * isa.lanes
    starts = range(0, rows.shape[1], width)
    return np.concatenate([np.ascontiguousarray(rows[:, start : start + width]).ravel() for start in starts])
