"""Depthwise convolutions: each channel has its own taps.

    result[y, x, c] = stages(bias[c] + Σ over taps (i, j) of source[v, u, c] · weight[c, i, j])
    with  v = y · stride_y + i · dilation_y - top  and  u = x · stride_x + j · dilation_x - left

A tile is a few pixels of a row by one vector of channels: a column of the source is loaded once for all pixels that
read it. Codes are multiplied in one of two ways, both exact:

    bytes      up to four rows of a column become the four bytes of 32-bit lanes, so that one integer step takes them;
               where codes are narrowed four vectors at a time, as many are made of four loads (``zipped``)
    floats     codes as float32: products and sums are integers below 2^24 (``exact_in_floats``)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.dots import GROUP
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.narrowing import zipped, zipped_order
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat, typed
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import chunks, pieces
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.row_work import RowWork
from graphpress.backends.tvm.kernels.shared_code import WITHIN
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorRun,
    VectorStage,
    as_numbers,
    operands_of,
    run_stages,
)
from graphpress.backends.tvm.kernels.window import TapWindow

EXACT = 1 << 24
"""Integers below it are exact in float32."""


@dataclass(frozen=True)
class Depthwise:
    """A depthwise convolution with constant weights.

    Args:
        source: what it reads; its halo holds the padding.
        store: what it writes; as many channels.
        window: the taps.
        stages: between sums and result.
        columns: pixels of a tile.
        in_bytes: codes are multiplied as bytes, by fours.
        zipped: of many channels at once, where there are so many (``zipped``): the lanes are in another order, so that
            stages read nothing but numbers per channel.
    """

    source: Plane
    store: Destination = field(metadata=WITHIN)
    window: TapWindow
    stages: tuple[VectorStage, ...] = field(default=(), metadata=WITHIN)
    columns: int = 7
    in_bytes: bool = False
    zipped: bool = False

    @property
    def integer(self) -> bool:
        """Whether codes are multiplied."""
        return self.source.dtype != FLOAT

    @property
    def packed_taps(self) -> int:
        """Vectors of weights per vector of channels."""
        rows, columns = self.window.taps
        return (-(-rows // GROUP) if self.in_bytes else rows) * columns

    @property
    def vectors(self) -> int:
        """Vectors of channels of a tile."""
        return GROUP if self.zipped else 1

    @property
    def sums(self) -> str:
        """Type of the sums."""
        return "int32" if self.in_bytes else FLOAT

    @property
    def operands(self) -> Sequence[Pointer]:
        """Source, weights, biases, what the stages read, and the result."""
        weights = "int8" if self.in_bytes else FLOAT
        fixed = [Pointer("source", self.source.dtype), Pointer("weights", weights), Pointer("bias", self.sums)]
        return [*fixed, *operands_of(self.stages), Pointer(RESULT, self.store.plane.dtype)]

    def tasks(self, isa: Isa) -> int:
        """A task is a row."""
        return self.store.plane.height

    def row_work(self, isa: Isa) -> RowWork:
        """Row by row."""
        plane = self.store.plane
        macs = plane.width * plane.channels * self.window.taps[0] * self.window.taps[1]
        return RowWork(self.source, plane, self.window.rows, macs)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All channels of one row, tile by tile."""
        result = self.store.plane
        image, row = b.let(task // result.height), b.let(task % result.height)
        place = StageContext(b, isa, memory, isa.lanes)
        for columns in chunks(result.width, self.columns):
            with b.loop(columns.pieces, "column") as column:
                for vectors in chunks(pieces(result.channels, isa.lanes), self.vectors):
                    with b.loop(vectors.pieces, "vector") as vector:
                        channel = (vectors.start + vector * vectors.size) * isa.lanes
                        corner = Position(image, row, columns.start + column * columns.size, channel)
                        self._tile(place, corner, columns.size, vectors.size)

    def _tile(self, place: StageContext, corner: Position, columns: int, vectors: int) -> None:
        if vectors == self.vectors:
            _Tile(self, place, corner, columns, vectors).write()
            return
        for vector in range(vectors):
            _Tile(self, place, corner.moved(vector * place.lanes), columns, 1).write()


class _Tile:
    """Writes the code of a few pixels by one vector of channels, or by those that are zipped.

    Args:
        kernel: what is computed.
        place: where.
        corner: the first pixel and channel.
        columns: pixels.
        vectors: of channels.
    """

    def __init__(self, kernel: Depthwise, place: StageContext, corner: Position, columns: int, vectors: int) -> None:
        self.kernel, self.place, self.corner, self.columns, self.vectors = kernel, place, corner, columns, vectors
        self.b, self.lanes = place.b, place.lanes

    def write(self) -> None:
        """Sums, then stages."""
        kernel, b, lanes = self.kernel, self.b, self.lanes
        sums = b.registers(self.columns * self.vectors * lanes, kernel.sums)
        for vector in range(self.vectors):
            bias = b.let(b.load(self.place.memory["bias"], self.corner.channel + vector * lanes, lanes))
            for pixel in range(self.columns):
                b.store(sums, self._sum(pixel, vector), bias, lanes)
        add = self._add_bytes if kernel.in_bytes else self._add_floats
        add(sums)
        runs = [self._results(sums, pixel) for pixel in range(self.columns)]
        if self.vectors == 1:
            kernel.store.write_all(self.place, runs)
            return
        for run in runs:
            kernel.store.write_zipped(self.place, run.vectors, run.first)

    def _sum(self, pixel: int, vector: int = 0) -> int:
        """Where a sum lies among the registers."""
        return (pixel * self.vectors + vector) * self.lanes

    def _results(self, sums: Memory, pixel: int) -> VectorRun:
        """The sums of a pixel through all stages."""
        position, results = replace(self.corner, x=self.corner.x + pixel), []
        for vector in range(self.vectors):
            total = self.b.load(sums, self._sum(pixel, vector), self.lanes)
            number = total.astype(typed(FLOAT, self.lanes)) if self.kernel.in_bytes else total
            at = position.moved(vector * self.lanes)
            results.append(run_stages(self.kernel.stages, self.place, number, at))
        return VectorRun(position, results)

    def _add_floats(self, sums: Memory) -> None:
        b, lanes, window = self.b, self.lanes, self.kernel.window
        for row in range(window.taps[0]):
            weights = [self._weights(row * window.taps[1] + tap, lanes)[0] for tap in range(window.taps[1])]
            for column, uses in self._columns():
                loaded = b.load(self.place.memory["source"], self._source(row, column), lanes)
                value = b.let(as_numbers(loaded, lanes) if self.kernel.integer else loaded)
                for pixel, tap in uses:
                    b.store(sums, pixel * lanes, b.load(sums, pixel * lanes, lanes) + value * weights[tap], lanes)

    def _add_bytes(self, sums: Memory) -> None:
        b, lanes, window, dot = self.b, self.lanes, self.kernel.window, self.place.isa.dot
        groups = chunks(window.taps[0], GROUP)
        rows = [
            range(chunk.start + GROUP * i, chunk.start + GROUP * i + chunk.size)
            for chunk in groups
            for i in range(chunk.pieces)
        ]
        for number, group in enumerate(rows):
            first = number * window.taps[1]
            weights = [self._weights(first + tap, GROUP * lanes) for tap in range(window.taps[1])]
            for column, uses in self._columns():
                values = self._interleaved(group, column) if self.vectors == 1 else self._zipped(group, column)
                for pixel, tap in uses:
                    for vector, value in enumerate(values):
                        place = self._sum(pixel, vector)
                        total = dot.products(b.load(sums, place, lanes), value, weights[tap][vector], lanes)
                        b.store(sums, place, total, lanes)

    def _weights(self, number: Expr, width: int) -> list[Expr]:
        """The weights of a tap for each vector of channels; those of a vector follow each other."""
        taps = self.kernel.packed_taps * (GROUP if self.kernel.in_bytes else 1)
        starts = [(self.corner.channel + vector * self.lanes) * taps for vector in range(self.vectors)]
        return [
            self.b.let(self.b.load(self.place.memory["weights"], start + number * width, width)) for start in starts
        ]

    def _columns(self) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Columns of the source, and for each the pixels that read it, with the tap."""
        window = self.kernel.window
        stride, step = window.strides[1], window.dilations[1]
        uses: dict[int, list[tuple[int, int]]] = {}
        for pixel in range(self.columns):
            for tap in range(window.taps[1]):
                uses.setdefault(pixel * stride + tap * step, []).append((pixel, tap))
        yield from sorted(uses.items())

    def _source(self, row: int, column: int) -> Expr:
        window, source = self.kernel.window, self.kernel.source
        y, x = window.start(self.corner.y, self.corner.x)
        pixel = source.at(y + row * window.dilations[0], x + column)
        return self.corner.image * source.size + pixel + self.corner.channel

    def _zipped(self, rows: range, column: int) -> list[Expr]:
        """The rows of a column as the bytes of 32-bit lanes, of many channels at once."""
        b, width = self.b, GROUP * self.lanes
        codes = [b.let(b.load(self.place.memory["source"], self._source(row, column), width)) for row in rows]
        zeros = [splat(0, width, self.kernel.source.dtype)] * (GROUP - len(codes))
        vectors = zipped(b, [*codes, *zeros], self.lanes)
        return [b.let(tirx.reinterpret(typed("int8", width), vector)) for vector in vectors]

    def _interleaved(self, rows: range, column: int) -> list[Expr]:
        """The rows of a column as the bytes of 32-bit lanes, the first lowest."""
        lanes, result = self.lanes, None
        for place, row in enumerate(rows):
            codes = self.b.load(self.place.memory["source"], self._source(row, column), lanes)
            # through the unsigned type of a byte: a sign must not reach the neighbors
            wide = tirx.reinterpret(typed("uint8", lanes), codes).astype(typed("uint32", lanes))
            moved = wide << splat(8 * place, lanes, "uint32") if place else wide
            result = moved if result is None else result | moved
        return [self.b.let(tirx.reinterpret(typed("int8", GROUP * lanes), result))]


def exact_in_floats(weights: np.ndarray, bias: np.ndarray) -> bool:
    """Whether sums of codes times these weights and biases are exact in float32, at each step.

    Args:
        weights: int8, ``[channels, 1, tap rows, tap columns]``.
        bias: int32, per channel.
    """
    largest = 255 * np.abs(weights.astype(np.int64)).sum(axis=(1, 2, 3)) + np.abs(bias.astype(np.int64))
    return bool(np.all(largest < EXACT))


def can_zip(store: Destination, isa: Isa) -> bool:
    """Whether there are enough channels to be zipped, and codes are narrowed so that their order comes back."""
    codes, many = store.plane.dtype == isa.dot.activations, store.plane.channels > (GROUP - 1) * isa.lanes
    return isa.narrowing is not None and codes and many


def _channel_order(kernel: Depthwise, lanes: int) -> np.ndarray:
    """Which channel each lane computes."""
    order = np.arange(whole_vectors(kernel.store.plane.channels, lanes))
    block = kernel.vectors * lanes
    for first in range(0, order.size - block + 1, block) if kernel.zipped else ():
        order[first : first + block] = first + np.array(zipped_order(lanes))
    return order


def per_lane(kernel: Depthwise, numbers: np.ndarray, lanes: int) -> np.ndarray:
    """Numbers of the channels in the order of the lanes that compute them, zeros behind them."""
    order = _channel_order(kernel, lanes)
    filled = np.zeros(order.size, numbers.dtype)
    filled[: numbers.size] = numbers.reshape(-1)
    permuted: np.ndarray = filled[order]
    return permuted


def packed_taps(kernel: Depthwise, weights: np.ndarray, lanes: int) -> np.ndarray:
    """Weights in the order in which tiles read them.

    Args:
        kernel: that reads them.
        weights: ``[channels, 1, tap rows, tap columns]``.
        lanes: channels of a vector.

    Returns:
        Flat: per vector of channels ``[tap rows, tap columns, lanes]``; in bytes ``[rows / 4, tap columns, lanes, 4]``.
    """
    rows, columns = kernel.window.taps
    height = -(-rows // GROUP) * GROUP if kernel.in_bytes else rows
    filled = np.zeros(
        (whole_vectors(kernel.store.plane.channels, lanes), height, columns), np.int8 if kernel.in_bytes else np.float32
    )
    filled[: weights.shape[0], :rows] = weights[:, 0]
    filled = filled[_channel_order(kernel, lanes)]
    if kernel.in_bytes:
        groups = filled.reshape(-1, lanes, height // GROUP, GROUP, columns)
        return np.ascontiguousarray(groups.transpose(0, 2, 4, 1, 3)).ravel()
    return np.ascontiguousarray(filled.reshape(-1, lanes, height, columns).transpose(0, 2, 3, 1)).ravel()
