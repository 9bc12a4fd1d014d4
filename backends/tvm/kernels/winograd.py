"""Winograd convolutions of 3 x 3 taps: fewer products, between two changes of basis (Lavin and Gray, 2015).

    Y = Aᵀ [ (G g Gᵀ) · (Bᵀ d B) ] A        element by element, for each tile of m x m results

A tile takes (m + 2)² products instead of 9 m²: 2.25 times fewer for m = 2, 4 times for m = 4. Summed over channels,
each of the (m + 2)² elements is a matrix product of tiles by weights, whose pixels are the tiles and whose rows are the
elements (``Product.rowwise``). Three kernels: ``WinogradInput`` makes Bᵀ d B, the product follows, ``WinogradOutput``
adds the bias to what Aᵀ … A gives. Weights are transformed when the model is compiled (``transformed_weights``).

Tiles at the lower and right border may reach beyond what is stored: they read the last row or pixel again, which
touches no result that is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat
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

TAPS = 3
VECTORS = 4
"""Vectors of channels that a task takes."""
Matrix = tuple[tuple[float, ...], ...]


class Basis(NamedTuple):
    """The matrices of F(m, 3)."""

    data: Matrix
    weights: Matrix
    results: Matrix


BASES: Mapping[int, Basis] = MappingProxyType(
    {
        2: Basis(
            data=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
            weights=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
            results=((1, 1, 1, 0), (0, 1, -1, -1)),
        ),
        4: Basis(
            data=(
                (4, 0, -5, 0, 1, 0),
                (0, -4, -4, 1, 1, 0),
                (0, 4, -4, -1, 1, 0),
                (0, -2, -1, 2, 1, 0),
                (0, 2, -1, -2, 1, 0),
                (0, 4, 0, -5, 0, 1),
            ),
            weights=(
                (1 / 4, 0, 0),
                (-1 / 6, -1 / 6, -1 / 6),
                (-1 / 6, 1 / 6, -1 / 6),
                (1 / 24, 1 / 12, 1 / 6),
                (1 / 24, -1 / 12, 1 / 6),
                (0, 0, 1),
            ),
            results=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
        ),
    }
)
"""Matrices by m; the points are 0, ±1, ∞ and 0, ±1, ±2, ∞."""


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a result.

    Args:
        m: rows and pixels of a tile.
        height: rows of the result.
        width: pixels of a row.
    """

    m: int
    height: int
    width: int

    @property
    def rows(self) -> int:
        """Tiles from top to bottom."""
        return pieces(self.height, self.m)

    @property
    def columns(self) -> int:
        """Tiles from left to right."""
        return pieces(self.width, self.m)

    @property
    def tiles(self) -> int:
        """All of them."""
        return self.rows * self.columns

    @property
    def side(self) -> int:
        """Rows and pixels of the source under a tile."""
        return self.m + TAPS - 1

    def plane(self, channels: int, stride: int) -> Plane:
        """The layout of transformed tiles: a row for each element, a pixel for each tile."""
        return Plane(channels, self.side * self.side, self.tiles, stride)


@dataclass(frozen=True)
class WinogradInput:
    """Bᵀ d B of all tiles.

    Args:
        source: what it reads; floats in whole vectors of channels, padding in its halo.
        grid: the tiles.
        pads: rows above and pixels to the left that padding adds.
    """

    source: Plane
    grid: TileGrid
    pads: tuple[int, int]

    def result(self, isa: Isa) -> Plane:
        """What it writes, in whole vectors."""
        return self.grid.plane(self.source.channels, whole_vectors(self.source.channels, isa.lanes))

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source and the transformed tiles."""
        return [Pointer("source", FLOAT), Pointer(RESULT, FLOAT)]

    def tasks(self, isa: Isa) -> int:
        """A task is a row of tiles, of a few vectors of channels."""
        return self.grid.rows * pieces(pieces(self.source.channels, isa.lanes), VECTORS)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All tiles of the row."""
        grid, result = self.grid, self.result(isa)
        for position in _tiles(b, isa, task, grid, pieces(self.source.channels, isa.lanes)):
            rows = self._places(b, position.y, self.pads[0], self.source.height + self.source.halo.bottom, grid.rows)
            columns = self._places(
                b, position.x, self.pads[1], self.source.width + self.source.halo.right, grid.columns
            )
            halfway = b.registers(grid.side * grid.side * isa.lanes, FLOAT)
            for column, x in enumerate(columns):
                vectors = [
                    b.let(b.load(memory["source"], _at(position, y, x).within(self.source), isa.lanes)) for y in rows
                ]
                for row, vector in enumerate(_products(BASES[grid.m].data, vectors, isa.lanes)):
                    b.store(halfway, (row * grid.side + column) * isa.lanes, vector, isa.lanes)
            for row in range(grid.side):
                vectors = _row(b, halfway, row, grid.side, isa.lanes)
                for column, vector in enumerate(_products(BASES[grid.m].data, vectors, isa.lanes)):
                    target = _element(position, grid, row * grid.side + column).within(result)
                    b.store(memory[RESULT], target, vector, isa.lanes)

    def _places(self, b: KernelBuilder, tile: Expr, pad: int, end: int, tiles: int) -> list[Expr]:
        """Rows or pixels of the source under a tile, the last that there is in place of those behind it."""
        m, side = self.grid.m, self.grid.side
        places = [tile * m + place - pad for place in range(side)]
        reaches_out = (tiles - 1) * m + side - 1 - pad >= end
        return [b.let(tirx.min(place, end - 1) if reaches_out else place) for place in places]


@dataclass(frozen=True)
class WinogradOutput:
    """Aᵀ … A of all tiles, biases added.

    Args:
        store: what it writes.
        grid: the tiles.
        stages: between the sums and the result.
    """

    store: Destination
    grid: TileGrid
    stages: tuple[VectorStage, ...] = ()

    def source(self, isa: Isa) -> Plane:
        """What it reads, in whole vectors."""
        return self.grid.plane(self.store.plane.channels, whole_vectors(self.store.plane.channels, isa.lanes))

    @property
    def operands(self) -> Sequence[Pointer]:
        """Products of the tiles, biases, what the stages read, and the result."""
        return [
            Pointer("source", FLOAT),
            Pointer("bias", FLOAT),
            *operands_of(self.stages),
            Pointer(RESULT, self.store.plane.dtype),
        ]

    def tasks(self, isa: Isa) -> int:
        """A task is a row of tiles, of a few vectors of channels."""
        return self.grid.rows * pieces(pieces(self.store.plane.channels, isa.lanes), VECTORS)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All tiles of the row, those at the borders without what lies beyond."""
        grid, place = self.grid, StageContext(b, isa, memory, isa.lanes)
        for position in _tiles(b, isa, task, grid, pieces(self.store.plane.channels, isa.lanes)):
            halfway = self._halfway(place, position)
            bias = b.let(b.load(memory["bias"], position.channel, isa.lanes))
            for rows in chunks(grid.height, grid.m):
                for columns in chunks(grid.width, grid.m):
                    with (
                        chosen(b, position.y, rows, grid.height, grid.m),
                        chosen(b, position.x, columns, grid.width, grid.m),
                    ):
                        self._write(place, halfway, bias, position, (rows.size, columns.size))

    def _halfway(self, place: StageContext, position: Position) -> Memory:
        """Aᵀ times the products of a tile."""
        b, lanes, grid, source = place.b, place.lanes, self.grid, self.source(place.isa)
        halfway = b.registers(grid.m * grid.side * lanes, FLOAT)
        for column in range(grid.side):
            elements = [_element(position, grid, row * grid.side + column) for row in range(grid.side)]
            vectors = [b.let(b.load(place.memory["source"], at.within(source), lanes)) for at in elements]
            for row, vector in enumerate(_products(BASES[grid.m].results, vectors, lanes)):
                b.store(halfway, (row * grid.side + column) * lanes, vector, lanes)
        return halfway

    def _write(
        self, place: StageContext, halfway: Memory, bias: Expr, position: Position, size: tuple[int, int]
    ) -> None:
        grid = self.grid
        for row in range(size[0]):
            vectors = _row(place.b, halfway, row, grid.side, place.lanes)
            sums = _products(BASES[grid.m].results[: size[1]], vectors, place.lanes)
            for column, vector in enumerate(sums):
                at = _at(position, position.y * grid.m + row, position.x * grid.m + column)
                self.store.write(place, run_stages(self.stages, place, vector + bias, at), at)


def transformed_weights(kernel: np.ndarray, m: int) -> np.ndarray:
    """G g Gᵀ: a matrix for each element of a tile.

    Args:
        kernel: float32, ``[outputs, inputs, 3, 3]``.
        m: rows and pixels of a tile.

    Returns:
        float32, ``[(m + 2)², outputs, inputs, 1, 1]``.
    """
    weights = np.array(BASES[m].weights)
    taps = kernel.reshape(-1, TAPS * TAPS).astype(np.float64)
    elements = np.kron(weights, weights) @ taps.T  # one product of matrices
    flat: np.ndarray = elements.astype(np.float32).reshape(-1, *kernel.shape[:2], 1, 1)
    return flat


def _tiles(b: KernelBuilder, isa: Isa, task: Expr, grid: TileGrid, vectors: int) -> Iterator[Position]:
    """The tiles of a task, each as a position whose rows and pixels are tiles: emitted as two loops."""
    parts = pieces(vectors, VECTORS)
    per_image = grid.rows * parts
    image, inside = b.let(task // per_image), b.let(task % per_image)
    row, first = b.let(inside // parts), b.let(inside % parts * VECTORS)
    extent = VECTORS if vectors % VECTORS == 0 else tirx.min(VECTORS, vectors - first)
    with b.loop(grid.columns, "tile") as column, b.loop(extent, "vector") as vector:
        yield Position(image, row, column, (first + vector) * isa.lanes)


def _at(position: Position, y: Expr, x: Expr) -> Position:
    """The same channels of another pixel."""
    return Position(position.image, y, x, position.channel)


def _element(tile: Position, grid: TileGrid, element: int) -> Position:
    """Where an element of a transformed tile lies."""
    return _at(tile, element, tile.y * grid.columns + tile.x)


def _row(b: KernelBuilder, memory: Memory, row: int, side: int, lanes: int) -> list[Expr]:
    return [b.let(b.load(memory, (row * side + column) * lanes, lanes)) for column in range(side)]


def _products(matrix: Matrix, vectors: Sequence[Expr], lanes: int) -> Iterator[Expr]:
    """A small matrix times vectors, without what is multiplied by zero or one."""
    for coefficients in matrix:
        terms = sorted(zip(coefficients, vectors, strict=True), key=lambda term: -term[0])
        total = None
        for factor, vector in terms:
            if factor == 0:
                continue
            term = vector if abs(factor) == 1 else vector * splat(float(abs(factor)), lanes)
            total = term if total is None else total + term if factor > 0 else total - term
        yield total
