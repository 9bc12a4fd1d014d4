"""Sums that stay in registers while outer products are added to them: rows of numbers by vectors.

    sum[row, vector] += number[row] · factor[vector]

A step loads each vector of factors once for all rows, and each number once for all vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat

ROWS = 6
"""Of a tile: with as many vectors as registers hold beside them, loads and products are in balance."""


def vectors_beside(isa: Isa, rows: int = ROWS) -> int:
    """So many vectors of sums fit the registers for each row, with the factors and a number beside them."""
    return max(1, (isa.registers - 2) // (rows + 1))


class RegisterTile:
    """A tile of float32 sums.

    Args:
        b: takes the statements.
        rows: of the tile.
        vectors: of each row.
        lanes: of a vector.
    """

    def __init__(self, b: KernelBuilder, rows: int, vectors: int, lanes: int) -> None:
        self.b, self.rows, self.vectors, self.lanes = b, rows, vectors, lanes
        self._sums = b.registers(rows * vectors * lanes, FLOAT)
        for row, vector in self.places():
            self._store(row, vector, splat(0.0, lanes))

    def places(self) -> Iterator[tuple[int, int]]:
        """Row and vector of each sum."""
        return ((row, vector) for row in range(self.rows) for vector in range(self.vectors))

    def add(self, number: Callable[[int], Expr], factor: Callable[[int], Expr]) -> None:
        """Add an outer product.

        Args:
            number: of a row.
            factor: of a vector.
        """
        factors = [self.b.let(factor(vector)) for vector in range(self.vectors)]
        for row in range(self.rows):
            spread = self.b.let(splat(number(row), self.lanes))
            for vector in range(self.vectors):
                self._store(row, vector, self.sum(row, vector) + spread * factors[vector])

    def sum(self, row: int, vector: int) -> Expr:
        """A sum as it stands."""
        return self.b.load(self._sums, self._place(row, vector), self.lanes)

    def _store(self, row: int, vector: int, value: Expr) -> None:
        self.b.store(self._sums, self._place(row, vector), value, self.lanes)

    def _place(self, row: int, vector: int) -> int:
        return (row * self.vectors + vector) * self.lanes
