"""Convolutions and matrix products: one micro-kernel that keeps a tile of results in registers.

    result[y, x, o] = stages(bias[o] + Σ over taps (i, j) and channels c of source[v, u, c] · weight[o, i, j, c])
    with  v = y · stride_y + i · dilation_y - top  and  u = x · stride_x + j · dilation_x - left

A matrix product is one whose kernel has one tap and whose pixels are the rows. A tile is ``rows × columns`` pixels by
``vectors`` vectors of output channels; each step of the reduction loads ``vectors`` vectors of weights, and for each
pixel one element of the source (four bytes where codes are multiplied), which all lanes get. Where the channels of
neighboring taps follow each other in memory, a row of the kernel is one reduction.

Weights are packed as the tiles read them (``packed_weights``), so that a block of output channels streams through the
cache once; while one block is computed, the next is asked for (``Tile.prefetch``), which is worth a third of the speed
where weights come from beyond the second-level cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.dots import GROUP, Dot
from graphpress.backends.tvm.codegen.extent import is_open
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.matrix_dot import BYTES, PIXELS, MatrixDot
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat, typed
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import chosen, chunks, chunks_of_run, pieces
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.row_work import RowWork
from graphpress.backends.tvm.kernels.shared_code import WITHIN
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
from graphpress.backends.tvm.kernels.window import TapWindow

CACHE_LINE = 64


@dataclass(frozen=True)
class Tile:
    """What is computed at a time, and in which order.

    Args:
        rows: rows of pixels.
        columns: pixels of each row.
        vectors: vectors of output channels.
        unroll: steps of the reduction that are written out.
        row_groups: into how many parts the rows are cut: within each, blocks of channels come first, then rows.
            One streams the weights once; as many as there are rows streams the source once; as many as there are
            threads keeps rows in the core that wrote them.
        prefetch: whether the next block's weights are asked for.
        pairs: whether codes of two pixels are multiplied at once (``MatrixDot``).
    """

    rows: int
    columns: int
    vectors: int
    unroll: int = 4
    row_groups: int = 1
    prefetch: bool = False
    pairs: bool = False


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product with constant weights.

    Args:
        source: what it reads; floats or codes. Its halo holds the padding.
        store: what it writes.
        window: the taps.
        groups: of channels, such that a group's outputs are whole vectors (``merged_groups``).
        stages: between accumulator and result.
        tile: how it is computed.
        rowwise: each row of pixels is multiplied by weights of its own, which follow each other: a batch of products.
    """

    source: Plane
    store: Destination = field(metadata=WITHIN)
    window: TapWindow
    tile: Tile
    groups: int = 1
    stages: tuple[VectorStage, ...] = field(default=(), metadata=WITHIN)
    rowwise: bool = False

    # -- what there is --------------------------------------------------------------------------------------------

    @property
    def integer(self) -> bool:
        """Whether codes are multiplied."""
        return self.source.dtype != FLOAT

    @property
    def step(self) -> int:
        """Elements of the source that a step takes."""
        if self.tile.pairs:
            return BYTES
        return GROUP if self.integer else 1

    @property
    def accumulator(self) -> str:
        """Type of the sums."""
        return "int32" if self.integer else FLOAT

    @property
    def slack(self) -> int:
        """Bytes that may be read behind the source, where a step takes more than its pixels are aligned to."""
        return BYTES if self.tile.pairs else 0

    def dot(self, isa: Isa) -> Dot | MatrixDot:
        """How codes are multiplied."""
        return isa.matrix_dot if self.tile.pairs and isa.matrix_dot is not None else isa.dot

    def sums_per_channel(self, isa: Isa) -> int:
        """Sums of an accumulator for each output channel."""
        return self.dot(isa).partial if self.integer else 1

    @property
    def accumulated_together(self) -> int:
        """Pixels that share an accumulator."""
        return PIXELS if self.tile.pairs else 1

    def sum_registers(self, isa: Isa) -> int:
        """Registers that the sums of the tile take."""
        accumulators = pieces(self.tile.rows * self.tile.columns, self.accumulated_together) * self.tile.vectors
        return accumulators * self.sums_per_channel(isa)

    def fits(self, isa: Isa) -> bool:
        """Whether there are instructions for the tile, and registers for its sums, weights and activations."""
        if self.tile.pairs and (isa.matrix_dot is None or not self.integer):
            return False
        pixels, factors = self.tile.rows * self.tile.columns, self.tile.vectors * self.accumulated_together
        at_once = self.tile.pairs or (self.integer and self.dot(isa).together > 1)
        loaded = pieces(pixels, self.accumulated_together) if at_once else 1
        return self.sum_registers(isa) + factors + loaded < isa.registers

    @property
    def takes_open(self) -> bool:
        """A matrix product does whose sums are known; padding would lie where other sizes have pixels."""
        return self.window == TapWindow() and not is_open((self.source.channels, self.store.plane.channels))

    @property
    def operands(self) -> Sequence[Pointer]:
        """Source, weights, biases, what the stages read, and the result."""
        weights = "int8" if self.integer else FLOAT
        fixed = [Pointer("source", self.source.dtype), Pointer("weights", weights), Pointer("bias", self.accumulator)]
        return [*fixed, *operands_of(self.stages), Pointer(RESULT, self.store.plane.dtype)]

    # -- the reduction --------------------------------------------------------------------------------------------

    @cached_property
    def channels(self) -> int:
        """Channels of a group of the source."""
        return self.source.channels // self.groups

    @property
    def joined(self) -> bool:
        """Whether the taps of a row are one run of memory. Codes behind the channels are multiplied by zero, where
        that takes no more steps; floats there may be infinite.
        """
        taps, stride = self.window.taps[1], self.source.stride
        if self.window.dilations[1] > 1 or self.groups > 1 or taps == 1 or self.source.is_part:
            return False
        if not self.integer:
            return self.source.is_dense
        return pieces(taps * stride, self.step) <= taps * pieces(self.channels, self.step)

    @property
    def outer_taps(self) -> tuple[int, int]:
        """Taps that loops run over: rows, and columns where they are no run."""
        return self.window.taps[0], 1 if self.joined else self.window.taps[1]

    @property
    def run(self) -> int:
        """Elements that follow each other in memory, rounded up to whole steps."""
        length = self.window.taps[1] * self.source.stride if self.joined else self.channels
        return -(-length // self.step) * self.step

    @property
    def reduction(self) -> int:
        """Products of one result, with those by zero."""
        return math.prod(self.outer_taps) * self.run

    # -- tasks ----------------------------------------------------------------------------------------------------

    def vectors(self, isa: Isa) -> int:
        """Vectors of output channels of a group."""
        return pieces(self.store.plane.channels, isa.lanes) // self.groups

    def blocks(self, isa: Isa) -> int:
        """Blocks of output channels, over all groups."""
        return self.groups * pieces(self.vectors(isa), self.tile.vectors)

    @property
    def row_tiles(self) -> int:
        """Tiles from top to bottom."""
        return int(pieces(self.store.plane.height, self.tile.rows))

    @property
    def column_tiles(self) -> int:
        """Tiles from left to right."""
        return int(pieces(self.store.plane.width, self.tile.columns))

    def tasks(self, isa: Isa) -> int:
        """A task is a block of channels by a row of tiles."""
        return self.row_tiles * self.blocks(isa)

    def row_work(self, isa: Isa) -> RowWork | None:
        """Rows of tiles, where all blocks of one come before the next."""
        if self.rowwise or self.tile.row_groups != self.row_tiles:
            return None
        plane = self.store.plane
        macs = plane.width * plane.channels * self.reduction
        return RowWork(self.source, plane, self.window.rows, macs, self.tile.rows, self.blocks(isa))

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All tiles of one row, for one block of channels."""
        _TaskWriter(self, b, isa, memory).write(task)


class _TaskWriter:
    """Writes the code of a task.

    Args:
        product: what is computed.
        b: takes the statements.
        isa: the instruction set.
        memory: what the operands point to.
    """

    def __init__(self, product: Product, b: KernelBuilder, isa: Isa, memory: dict[str, Memory]) -> None:
        self.product, self.b, self.isa, self.memory = product, b, isa, memory
        self.tile, self.lanes = product.tile, isa.lanes
        self.place = StageContext(b, isa, memory, isa.lanes)
        self.vector_weights = product.reduction * isa.lanes

    def write(self, task: Expr) -> None:
        """Find out which rows and channels, and compute them in whole tiles and what is left of them."""
        image, block, row_tile = self._located(task)
        for channels in chunks(self.product.vectors(self.isa), self.tile.vectors):
            with chosen(self.b, block[1], channels, self.product.vectors(self.isa), self.tile.vectors):
                first = self.b.let(block[0] * self.product.vectors(self.isa) + block[1] * self.tile.vectors)
                for rows in chunks(self.product.store.plane.height, self.tile.rows):
                    with chosen(self.b, row_tile, rows, self.product.store.plane.height, self.tile.rows):
                        self._row_of_tiles(image, block[0], first, row_tile, (rows.size, channels.size))

    def _located(self, task: Expr) -> tuple[Expr, tuple[Expr, Expr], Expr]:
        """Image, group and block in it, and row of tiles."""
        product, b = self.product, self.b
        blocks, per_image = product.blocks(self.isa), product.tasks(self.isa)
        rows = product.row_tiles // self.tile.row_groups
        image = b.let(task // per_image)
        inside = b.let(task % per_image)
        part, rest = b.let(inside // (blocks * rows)), b.let(inside % (blocks * rows))
        block, row_tile = b.let(rest // rows), b.let(part * rows + rest % rows)
        if product.groups == 1:
            return image, (0, block), row_tile
        per_group = blocks // product.groups
        return image, (b.let(block // per_group), b.let(block % per_group)), row_tile

    def _row_of_tiles(self, image: Expr, group: Expr, first: Expr, row_tile: Expr, size: tuple[int, int]) -> None:
        before = 0
        narrower = [self.tile.columns >> halves for halves in range(self.tile.columns.bit_length())]
        for columns in chunks_of_run(self.b, self.product.store.plane.width, *narrower):
            with self.b.loop(columns.pieces, "column") as column:
                number = row_tile * self.product.column_tiles + before + column
                corner = Position(
                    image, row_tile * self.tile.rows, columns.start + column * columns.size, first * self.lanes
                )
                micro = _MicroKernel(self, corner, group, first, (size[0], columns.size, size[1]))
                micro.write(number)
            before = before + columns.pieces


class _MicroKernel:
    """Writes the code of one tile.

    Args:
        writer: of the task.
        corner: its first pixel and channel.
        group: of the channels.
        first: vector of output channels with which it begins.
        size: rows, columns, vectors.
    """

    def __init__(
        self, writer: _TaskWriter, corner: Position, group: Expr, first: Expr, size: tuple[int, int, int]
    ) -> None:
        self.writer, self.b, self.product = writer, writer.b, writer.product
        self.lanes, self.vectors = writer.lanes, size[2]
        self.width = writer.lanes * writer.product.sums_per_channel(writer.isa)
        self.corner, self.group = corner, group
        self.pixels = [(row, column) for row in range(size[0]) for column in range(size[1])]
        together = self.product.accumulated_together
        self.units = [self.pixels[first : first + together] for first in range(0, len(self.pixels), together)]
        self.dot = self.product.dot(writer.isa)
        matrix = self.product.store.plane.stride // self.lanes * writer.vector_weights
        row = corner.y * matrix if self.product.rowwise else 0
        self.weights_at = self.b.let(row + first * writer.vector_weights)

    def write(self, number: Expr) -> None:
        """Sums, then stages."""
        sums = self._start()
        self._reduce(sums, number)
        self._finish(sums)

    def _start(self) -> Memory:
        sums = self.b.registers(len(self.units) * self.vectors * self.width, self.product.accumulator)
        for vector in range(self.vectors):
            bias = self.b.let(self.b.load(self.memory("bias"), self.corner.channel + vector * self.lanes, self.lanes))
            start = self.dot.start(bias, self.lanes) if self.product.integer else bias
            for unit in range(len(self.units)):
                self.b.store(sums, self._sum(unit, vector), start, self.width)
        return sums

    def memory(self, name: str) -> Memory:
        """What an operand points to."""
        return self.writer.memory[name]

    def _sum(self, unit: int, vector: int) -> int:
        """Where the sums of a pixel, or of those that share an accumulator, lie among the registers."""
        return (unit * self.vectors + vector) * self.width

    # -- reduction ------------------------------------------------------------------------------------------------

    def _reduce(self, sums: Memory, number: Expr) -> None:
        product, b = self.product, self.b
        source, window = product.source, product.window
        pixel = source.at(*window.start(self.corner.y, self.corner.x))
        start = b.let(self.corner.image * source.size + pixel + self.group * product.channels)
        steps = product.run // product.step
        unroll = min(self.product.tile.unroll, steps)
        rows, columns = product.outer_taps
        block = _Prefetch.of(self, number, rows * columns * (steps // unroll))
        with b.loop(rows, "tap_row") as row, b.loop(columns, "tap_column") as column:
            tap = row * columns + column
            at = b.let(
                start + row * (window.dilations[0] * source.row) + column * (window.dilations[1] * source.stride)
            )
            weights = b.let(self.weights_at + tap * (product.run * self.vectors * self.lanes))
            with b.loop(steps // unroll, "step") as step:
                for first, count in self._together(unroll):
                    self._steps(sums, at, weights, step * unroll + first, count)
                block.ask(tap * (steps // unroll) + step)
            for rest in range(steps - steps % unroll, steps):
                self._steps(sums, at, weights, rest, 1)

    def _together(self, steps: int) -> Iterator[tuple[int, int]]:
        """Steps in runs whose activations are loaded at once: the first of each, and how many there are."""
        many = self.dot.together if self.product.integer else 1
        whole = steps // many * many
        yield from ((first, many) for first in range(0, whole, many))
        yield from ((first, 1) for first in range(whole, steps))

    def _steps(self, sums: Memory, at: Expr, weights: Expr, first: Expr, count: int) -> None:
        """Multiply the pixels' elements of some steps by their weights."""
        loaded = [self._elements(at, first, unit, count) for unit in self.units if count > 1]
        for offset in range(count):
            factors = self._factors(weights, first + offset)
            for number, unit in enumerate(self.units):
                element = loaded[number][offset] if loaded else self._elements(at, first, unit, 1)[0]
                for vector, factor in enumerate(factors):
                    where = self._sum(number, vector)
                    total = self._added(self.b.load(sums, where, self.width), element, factor)
                    self.b.store(sums, where, total, self.width)

    def _factors(self, weights: Expr, step: Expr) -> list[Expr]:
        """The weights of a step, a vector for each of output channels."""
        b, width = self.b, self.product.step * self.lanes
        start = weights + step * (self.vectors * width)
        return [b.let(b.load(self.memory("weights"), start + vector * width, width)) for vector in range(self.vectors)]

    def _elements(self, at: Expr, step: Expr, unit: Sequence[tuple[int, int]], count: int) -> Sequence[Expr]:
        """What a pixel, or those that share an accumulator, have for some steps."""
        source = self.memory("source")
        places = [at + step * self.product.step + self._moved(*pixel) for pixel in unit]
        if isinstance(self.dot, MatrixDot):
            return [self.dot.operands(self.b, source, places)]
        if self.product.integer:
            return self.dot.operands(self.b, source, places[0], count)
        return [self.b.let(splat(self.b.load(source, places[0]), self.lanes))]

    def _moved(self, row: int, column: int) -> int:
        """From the tile's first pixel to another, in the source."""
        source, strides = self.product.source, self.product.window.strides
        return row * strides[0] * source.row + column * strides[1] * source.stride

    def _added(self, total: Expr, element: Expr, factor: Expr) -> Expr:
        if self.product.integer:
            return self.dot.multiply(total, element, factor, self.lanes)
        return total + element * factor

    # -- results --------------------------------------------------------------------------------------------------

    def _finish(self, sums: Memory) -> None:
        place, stages = self.writer.place, self.product.stages
        runs = []
        for pixel, (row, column) in enumerate(self.pixels):
            positions = [self._position(row, column, vector) for vector in range(self.vectors)]
            totals = [self._total(sums, pixel, vector) for vector in range(self.vectors)]
            results = [run_stages(stages, place, *result) for result in zip(totals, positions, strict=True)]
            runs.append(VectorRun(positions[0], results))
        self.product.store.write_all(place, runs)

    def _total(self, sums: Memory, pixel: int, vector: int) -> Expr:
        unit, place = divmod(pixel, self.product.accumulated_together)
        accumulator = self.b.load(sums, self._sum(unit, vector), self.width)
        if not self.product.integer:
            return accumulator
        if isinstance(self.dot, MatrixDot):
            return self.dot.total(accumulator, self.lanes, place).astype(typed(FLOAT, self.lanes))
        return self.dot.total(accumulator, self.lanes).astype(typed(FLOAT, self.lanes))

    def _position(self, row: int, column: int, vector: int) -> Position:
        corner = self.corner
        return Position(corner.image, corner.y + row, corner.x + column, corner.channel + vector * self.lanes)


class _Prefetch:
    """Asks for the next block's weights, evenly over the steps of all tiles of a block.

    Args:
        micro: the tile; None asks for nothing.
        start: where what this tile asks for begins.
        elements: that each call asks for.
    """

    def __init__(self, micro: _MicroKernel | None, start: Expr = 0, elements: int = 0) -> None:
        self.micro, self.start, self.elements = micro, start, elements

    @classmethod
    def of(cls, micro: _MicroKernel, number: Expr, calls: int) -> _Prefetch:
        """What a tile asks for.

        Args:
            micro: the tile.
            number: of the tile, in its image.
            calls: how often it will ask.
        """
        product = micro.product
        if not product.tile.prefetch or not calls:
            return cls(None)
        tiles = product.row_tiles // product.tile.row_groups * product.column_tiles
        block = micro.vectors * micro.writer.vector_weights
        elements = -(-block // (tiles * calls))
        start = micro.b.let(micro.weights_at + block + (number % tiles) * (elements * calls))
        return cls(micro, start, elements)

    def ask(self, call: Expr) -> None:
        """Ask for the next piece."""
        if self.micro is None:
            return
        weights = self.micro.memory("weights")
        line = CACHE_LINE // np.dtype(weights.dtype).itemsize
        for place in range(0, self.elements, line):
            self.micro.b.prefetch(weights, self.start + call * self.elements + place)
