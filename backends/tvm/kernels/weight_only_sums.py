"""How a block of inputs is added up under integer weights: floats by floats, or codes by codes.

Floats: codes become floats in registers, where the processor has an instruction for it by a table of sixteen. Nothing
is rounded but sums:

    total += scale · (Σ x · q  -  z · Σ x)

Codes: words are masked into bytes, of which an instruction multiplies four by four codes of the activations (``dots``),
exactly; the sum begins with what zero-points take away:

    total += scale · scale of the activations · (Σ code · q  -  z · Σ code)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder
from graphpress.backends.tvm.codegen.dots import GROUP
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat, typed
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import StageContext

NIBBLES = 8
"""Codes of four bits in a word."""
AHEAD = 4096
"""Bytes by which weights are asked for before they are read."""


class CodedWeights(Protocol):
    """What is known of the weights, and of what they multiply (``WeightOnlyProduct``)."""

    @property
    def source(self) -> Plane:
        """What is multiplied."""
        ...

    @property
    def bits(self) -> int:
        """Of a code."""
        ...

    @property
    def block(self) -> int:
        """Inputs that share a scale."""
        ...

    @property
    def zero_points(self) -> bool:
        """Whether each block of an output has one."""
        ...

    @property
    def step(self) -> int:
        """Inputs whose codes are loaded at once."""
        ...

    @property
    def element(self) -> str:
        """Type of what holds them."""
        ...

    @property
    def blocks(self) -> int:
        """Blocks of inputs."""
        ...


class SumsOfRows:
    """A number in registers for each row and output of a tile.

    Args:
        b: takes the statements.
        rows: of the tile.
        vectors: of outputs.
        lanes: of a vector.
        dtype: type of the numbers.
    """

    def __init__(self, b: KernelBuilder, rows: int, vectors: int, lanes: int, dtype: str) -> None:
        self.b, self.rows, self.vectors, self.lanes = b, rows, vectors, lanes
        self._memory = b.registers(max(1, rows) * vectors * lanes, dtype)

    def places(self) -> Iterator[tuple[int, int]]:
        """Row and vector of each."""
        return ((row, vector) for row in range(self.rows) for vector in range(self.vectors))

    def fill(self, value: Expr) -> None:
        """The same everywhere."""
        for place in self.places():
            self.set(*place, value)

    def get(self, row: int, vector: int) -> Expr:
        """As they stand."""
        return self.b.load(self._memory, (row * self.vectors + vector) * self.lanes, self.lanes)

    def set(self, row: int, vector: int, value: Expr) -> None:
        """From now on."""
        self.b.store(self._memory, (row * self.vectors + vector) * self.lanes, value, self.lanes)


class BlockSums:
    """Writes the code that adds a block to the totals of a tile.

    Args:
        place: where.
        product: what is computed.
        start: where the first row begins in the source.
        size: rows and vectors of the tile.
    """

    def __init__(self, place: StageContext, product: CodedWeights, start: Expr, size: tuple[int, int]) -> None:
        self.place, self.product, self.start = place, product, start
        self.b, self.lanes, (self.rows, self.vectors) = place.b, place.lanes, size

    def add(self, totals: SumsOfRows, block: Expr, first: Expr) -> None:
        """Add a block.

        Args:
            totals: of the tile.
            block: its number.
            first: its first scale.
        """
        raise NotImplementedError

    def words(self, weights: Expr) -> list[Expr]:
        """What holds the weights of a step, for each vector of outputs; what will be read is asked for."""
        b, memory, element = self.b, self.place.memory["weights"], self.product.element
        size = np.dtype(element).itemsize
        words = [b.let(b.load(memory, weights + vector * self.lanes, self.lanes)) for vector in range(self.vectors)]
        for ahead in range(0, self.vectors * self.lanes * size, 64):
            b.prefetch(memory, weights + (AHEAD + ahead) // size)
        return words

    def steps(self, block: Expr, first: Expr) -> Iterator[tuple[Expr, Expr]]:
        """Where the inputs of each step lie in the first row, and its weights: a loop."""
        product, b = self.product, self.b
        count = product.block // product.step
        source, weights = b.let(self.start + block * product.block), b.let(first * count)
        with b.loop(count, "step") as step:
            yield b.let(source + step * product.step), b.let(weights + step * (self.vectors * self.lanes))

    def scale(self, vector: int, first: Expr) -> Expr:
        """Of a vector of outputs."""
        return self.b.let(self.b.load(self.place.memory["scales_of_blocks"], first + vector * self.lanes, self.lanes))

    def zeros(self, vector: int, first: Expr) -> Expr:
        """The zero-points of a vector of outputs, as int32."""
        zeros = self.b.load(self.place.memory["zeros_of_blocks"], first + vector * self.lanes, self.lanes)
        return zeros.astype(typed("int32", self.lanes))


class FloatSums(BlockSums):
    """Codes become floats."""

    def add(self, totals: SumsOfRows, block: Expr, first: Expr) -> None:
        """Sums of the block, then its scales."""
        b, lanes = self.b, self.lanes
        sums = SumsOfRows(b, self.rows, self.vectors, lanes, FLOAT)
        inputs = SumsOfRows(b, self.rows if self.product.zero_points else 0, 1, lanes, FLOAT)
        for each in (sums, inputs):
            each.fill(splat(0.0, lanes))
        for source, weights in self.steps(block, first):
            self._step(sums, inputs, source, self.words(weights))
        for vector in range(self.vectors):
            scale = self.scale(vector, first)
            zeros = b.let(self.zeros(vector, first).astype(typed(FLOAT, lanes))) if self.product.zero_points else None
            for row in range(self.rows):
                total = sums.get(row, vector)
                if zeros is not None:
                    total = total - zeros * inputs.get(row, 0)
                totals.set(row, vector, totals.get(row, vector) + total * scale)

    def _step(self, sums: SumsOfRows, inputs: SumsOfRows, source: Expr, words: Sequence[Expr]) -> None:
        """Add the inputs whose codes lie in one word, or byte."""
        b, lanes = self.b, self.lanes
        for place in range(self.product.step):
            numbers = [b.let(self._numbers(word, place)) for word in words]
            for row in range(self.rows):
                offset = source + row * self.product.source.stride + place
                element = b.let(splat(b.load(self.place.memory["source"], offset), lanes))
                if self.product.zero_points:
                    inputs.set(row, 0, inputs.get(row, 0) + element)
                for vector, number in enumerate(numbers):
                    sums.set(row, vector, sums.get(row, vector) + element * number)

    def _numbers(self, words: Expr, place: int) -> Expr:
        """The codes at a place of the words as floats."""
        lanes, lookup = self.lanes, self.place.isa.lookup
        if self.product.bits == 8:
            return words.astype(typed("int32", lanes)).astype(typed(FLOAT, lanes))
        if lookup:
            shifted = words >> splat(4 * place, lanes, "int32") if place else words
            return tirx.call_llvm_pure_intrin(typed(FLOAT, lanes), lookup, _table(lanes), shifted)
        raised = words << splat(28 - 4 * place, lanes, "int32") if place < NIBBLES - 1 else words
        return (raised >> splat(28, lanes, "int32")).astype(typed(FLOAT, lanes))


class CodeSums(BlockSums):
    """Codes are multiplied by codes.

    Args:
        place: where.
        product: what is computed.
        start: where the first row begins in the source.
        size: rows and vectors of the tile.
        first_block: number of the first row's first block, among those of all rows.
        offset: what has been added to the weights' codes.
    """

    def __init__(
        self,
        place: StageContext,
        product: CodedWeights,
        start: Expr,
        size: tuple[int, int],
        first_block: Expr,
        offset: int,
    ) -> None:
        super().__init__(place, product, start, size)
        self.first_block, self.offset = first_block, offset

    def add(self, totals: SumsOfRows, block: Expr, first: Expr) -> None:
        """Sums of the block, from what zero-points take away, then both scales."""
        b, lanes, memory = self.b, self.lanes, self.place.memory
        sums = SumsOfRows(b, self.rows, self.vectors, lanes, "int32")
        at = [b.let(self.first_block + row * self.product.blocks + block) for row in range(self.rows)]
        taken = [b.let(splat(-b.load(memory["source_sums"], where), lanes)) for where in at]
        for vector in range(self.vectors):
            zeros = self._zeros(vector, first)
            for row in range(self.rows):
                sums.set(row, vector, splat(0, lanes, "int32") if zeros is None else zeros * taken[row])
        for source, weights in self.steps(block, first):
            self._step(sums, source, self.words(weights))
        factors = [b.let(splat(b.load(memory["source_scales"], where), lanes)) for where in at]
        for vector in range(self.vectors):
            scale = self.scale(vector, first)
            for row in range(self.rows):
                total = sums.get(row, vector).astype(typed(FLOAT, lanes))
                totals.set(row, vector, totals.get(row, vector) + total * (scale * factors[row]))

    def _zeros(self, vector: int, first: Expr) -> Expr | None:
        """What codes are zero, as they are multiplied; None where all are zero."""
        offset = splat(self.offset, self.lanes, "int32")
        if self.product.zero_points:
            return self.b.let(self.zeros(vector, first) + offset)
        return offset if self.offset else None

    def _step(self, sums: SumsOfRows, source: Expr, words: Sequence[Expr]) -> None:
        """Add the inputs whose codes lie in one word."""
        b, lanes, dot = self.b, self.lanes, self.place.isa.dot
        for part in range(self.product.step // GROUP):
            bytes_ = [b.let(tirx.reinterpret(typed("int8", GROUP * lanes), self._bytes(word, part))) for word in words]
            for row in range(self.rows):
                offset = source + row * self.product.source.stride + part * GROUP
                four = tirx.reinterpret("int32", b.load(self.place.memory["source"], offset, GROUP))
                spread = b.let(tirx.reinterpret(typed("int8", GROUP * lanes), splat(four, lanes)))
                for vector, codes in enumerate(bytes_):
                    sums.set(row, vector, dot.products(sums.get(row, vector), codes, spread, lanes))

    def _bytes(self, words: Expr, part: int) -> Expr:
        """Four codes of each word, in bytes."""
        if self.product.bits == 8:
            return words
        shifted = words >> splat(4, self.lanes, "int32") if part else words
        return shifted & splat(0x0F0F0F0F, self.lanes, "int32")


def _table(lanes: int) -> Expr:
    """The numbers that the codes of four bits are."""
    code = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), lanes)
    signed = tirx.Select(code < splat(8, lanes, "int32"), code, code - splat(16, lanes, "int32"))
    return signed.astype(typed(FLOAT, lanes))
