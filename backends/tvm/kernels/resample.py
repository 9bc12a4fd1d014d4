"""Rows and pixels at other places: what resizing, and padding by what is there, are made of.

    result[y, x, c] = stages(Σ over taps (i, j) of weight_y[y, i] · weight_x[x, j] · (source[at_y[y, i], at_x[x, j], c]
                             - zero_point))

Places and weights are tables, made when the model is compiled: all modes, scales and coordinates are the same code.
With one tap of weight 1 a pixel is copied as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import halvings
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorStage,
    numbers_in,
    operands_of,
    run_stages,
)

TABLES = ("rows", "columns")
"""Operands: places in the source, int32, ``[rows or pixels of the result, taps]``."""
WEIGHTS = ("row_weights", "column_weights")
"""Operands: float32, likewise; there are none where there is one tap each."""


@dataclass(frozen=True)
class Resample:
    """Weighted sums of a few rows and pixels.

    Args:
        source: what it reads; its halo is not read.
        store: what it writes; as many channels.
        taps: rows and pixels of each sum; one each has the weight 1.
        stages: after the sum.
        zero_point: of the source's codes.
    """

    source: Plane
    store: Destination
    taps: tuple[int, int] = (1, 1)
    stages: tuple[VectorStage, ...] = ()
    zero_point: int = 0

    @property
    def weighted(self) -> bool:
        """Whether there are weights."""
        return self.taps != (1, 1)

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, the tables, what the stages read, and the result."""
        tables = [Pointer(name, "int32") for name in TABLES]
        weights = [Pointer(name, FLOAT) for name in WEIGHTS if self.weighted]
        source, result = Pointer("source", self.source.dtype), Pointer(RESULT, self.store.plane.dtype)
        return [source, *tables, *weights, *operands_of(self.stages), result]

    @property
    def copies(self) -> bool:
        """Whether elements stay what they are."""
        same = (self.source.dtype, self.zero_point) == (self.store.plane.dtype, self.store.zero_point)
        return same and not self.weighted and not self.stages

    def tasks(self, isa: Isa) -> int:
        """A task is a row of the result."""
        return self.store.plane.height

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All pixels of one row."""
        plane = self.store.plane
        image, row = b.let(task // plane.height), b.let(task % plane.height)
        lanes = isa.lanes * (4 if self.copies and self.source.dtype != FLOAT else 1)
        rows = self._taps(b, memory, 0, row)
        with b.loop(plane.width, "pixel") as pixel:
            columns = self._taps(b, memory, 1, pixel)
            for chunk in halvings(plane.channels, lanes):
                with b.loop(chunk.pieces, "vector") as vector:
                    position = Position(image, row, pixel, chunk.start + vector * chunk.size)
                    self._vector(StageContext(b, isa, memory, chunk.size), position, rows, columns)

    def _taps(self, b: KernelBuilder, memory: dict[str, Memory], axis: int, place: Expr) -> list[tuple[Expr, Expr]]:
        """Places and weights of one row or pixel of the result."""
        first, count = place * self.taps[axis], self.taps[axis]
        places = [b.let(b.load(memory[TABLES[axis]], first + tap)) for tap in range(count)]
        if not self.weighted:
            return [(places[0], None)]
        return [(at, b.let(b.load(memory[WEIGHTS[axis]], first + tap))) for tap, at in enumerate(places)]

    def _vector(
        self,
        place: StageContext,
        position: Position,
        rows: Sequence[tuple[Expr, Expr]],
        columns: Sequence[tuple[Expr, Expr]],
    ) -> None:
        if self.copies:
            value = self._load(place, position, rows[0][0], columns[0][0])
            place.b.store(place.memory[RESULT], position.within(self.store.plane), value, place.lanes)
            return
        total = None
        for y, row_weight in rows:
            inner = None
            for x, weight in columns:
                value = self._number(place, position, y, x)
                value = value if weight is None else value * splat(weight, place.lanes)
                inner = value if inner is None else inner + value
            inner = inner if row_weight is None else inner * splat(row_weight, place.lanes)
            total = inner if total is None else total + inner
        self.store.write(place, run_stages(self.stages, place, total, position), position)

    def _load(self, place: StageContext, position: Position, y: Expr, x: Expr) -> Expr:
        offset = Position(position.image, y, x, position.channel).within(self.source)
        return place.b.load(place.memory["source"], offset, place.lanes)

    def _number(self, place: StageContext, position: Position, y: Expr, x: Expr) -> Expr:
        value = self._load(place, position, y, x)
        return numbers_in(value, place.lanes, self.source.dtype, self.zero_point)
