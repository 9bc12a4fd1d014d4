"""Pools: the largest or the mean value of a window.

Padding is no value: taps that lie in it are left out of the maximum, and of the mean where it does not count there.
Codes are compared as they are, and summed less their zero-point.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, lowest, splat, typed
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import halvings
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.row_work import RowWork
from graphpress.backends.tvm.kernels.shared_code import WITHIN, number_of
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorStage,
    numbers_in,
    operands_between,
    run_stages,
)
from graphpress.backends.tvm.kernels.window import TapWindow


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each window; the result has the source's type and scale.

    Args:
        source: what it reads; its halo is not read.
        result: what it writes.
        window: the taps.
    """

    source: Plane
    result: Plane
    window: TapWindow

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source and the result."""
        return [Pointer("source", self.source.dtype), Pointer(RESULT, self.result.dtype)]

    def tasks(self, isa: Isa) -> int:
        """A task is a row."""
        return self.result.height

    def row_work(self, isa: Isa) -> RowWork | None:
        """Row by row."""
        return _row_work(self.source, self.result, self.window)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All windows of one row."""
        image, row = b.let(task // self.result.height), b.let(task % self.result.height)
        lanes = isa.lanes * (1 if self.source.dtype == FLOAT else 4)
        with b.loop(self.result.width, "pixel") as pixel:
            for chunk in halvings(self.source.channels, lanes):
                with b.loop(chunk.pieces, "vector") as vector:
                    position = Position(image, row, pixel, chunk.start + vector * chunk.size)
                    largest = self._largest(StageContext(b, isa, memory, chunk.size), position)
                    b.store(memory[RESULT], position.within(self.result), largest, chunk.size)

    def _largest(self, place: StageContext, position: Position) -> Expr:
        largest = None
        for tap in Taps(self.window, self.source, self.result, position):
            value = tap.load(place)
            if tap.valid is not None:
                value = place.b.select(tap.valid, value, lowest(self.source.dtype, place.lanes))
            largest = value if largest is None else tirx.max(largest, value)
        return largest


@dataclass(frozen=True)
class AveragePool:
    """The mean of each window.

    Args:
        source: what it reads; its halo is not read.
        store: what it writes.
        window: the taps.
        zero_point: of the source's codes.
        counts_padding: whether padding counts as zeros.
        stages: after the mean.
    """

    source: Plane
    store: Destination
    window: TapWindow
    zero_point: int = 0
    counts_padding: bool = False
    stages: tuple[VectorStage, ...] = ()

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, what the stages read, and the result."""
        return operands_between(self.source.dtype, self.stages, self.store.plane.dtype)

    def tasks(self, isa: Isa) -> int:
        """A task is a row."""
        return self.store.plane.height

    def row_work(self, isa: Isa) -> RowWork | None:
        """Row by row."""
        return _row_work(self.source, self.store.plane, self.window)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All windows of one row."""
        plane = self.store.plane
        image, row = b.let(task // plane.height), b.let(task % plane.height)
        with b.loop(plane.width, "pixel") as pixel:
            for chunk in halvings(self.source.channels, isa.lanes):
                with b.loop(chunk.pieces, "vector") as vector:
                    position = Position(image, row, pixel, chunk.start + vector * chunk.size)
                    place = StageContext(b, isa, memory, chunk.size)
                    self.store.write(
                        place, run_stages(self.stages, place, self._mean(place, position), position), position
                    )

    def _mean(self, place: StageContext, position: Position) -> Expr:
        lanes, taps = place.lanes, list(Taps(self.window, self.source, self.store.plane, position))
        total = splat(0.0, lanes)
        for tap in taps:
            total = total + self._number(place, tap)
        if self.counts_padding or taps[0].valid is None:
            return total / splat(float(len(taps)), lanes)
        count = tirx.const(0, "int32")
        for tap in taps:
            count = count + tirx.Select(tap.valid, tirx.const(1, "int32"), tirx.const(0, "int32"))
        count = tirx.max(count, tirx.const(1, "int32"))  # of nothing, where a window lies in padding alone: 0
        return total / splat(count.astype(FLOAT), lanes)

    def _number(self, place: StageContext, tap: Tap) -> Expr:
        """What a tap adds; padding adds nothing."""
        value = tap.load(place)
        value = numbers_in(value, place.lanes, self.source.dtype, self.zero_point)
        return value if tap.valid is None else place.b.select(tap.valid, value, splat(0.0, place.lanes))


@dataclass(frozen=True)
class GlobalAveragePool:
    """The sum of all pixels, of which stages make the mean: their number is part of the units.

    Args:
        source: what it reads.
        store: what it writes: one pixel.
        zero_point: of the source's codes.
        stages: after the sum.
    """

    source: Plane
    store: Destination = field(metadata=WITHIN)
    zero_point: int = field(default=0, metadata=number_of("int32"))
    stages: tuple[VectorStage, ...] = field(default=(), metadata=WITHIN)

    @property
    def integer(self) -> bool:
        """Whether codes are summed."""
        return self.source.dtype != FLOAT

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, what the stages read, and the result."""
        return operands_between(self.source.dtype, self.stages, self.store.plane.dtype)

    def tasks(self, isa: Isa) -> int:
        """A task is a vector of channels; the last may be done by halves."""
        return -(-self.source.channels // isa.lanes)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All pixels of a vector of channels; the last vector reads what lies behind the channels, too."""
        tasks = self.tasks(isa)
        image, vector = b.let(task // tasks), b.let(task % tasks)
        place = StageContext(b, isa, memory, isa.lanes)
        position = Position(image, 0, 0, b.let(vector * isa.lanes))
        sums = b.registers(isa.lanes, "int32" if self.integer else FLOAT)
        start = -self.zero_point * self.source.height * self.source.width if self.integer else 0.0
        b.store(sums, 0, splat(start, isa.lanes, sums.dtype), isa.lanes)
        with b.loop(self.source.height, "row") as y, b.loop(self.source.width, "pixel") as x:
            offset = Position(image, y, x, position.channel).within(self.source)
            value = b.load(memory["source"], offset, isa.lanes).astype(typed(sums.dtype, isa.lanes))
            b.store(sums, 0, b.load(sums, 0, isa.lanes) + value, isa.lanes)
        total = b.load(sums, 0, isa.lanes).astype(typed(FLOAT, isa.lanes))
        self.store.write(place, run_stages(self.stages, place, total, position), position)


def _row_work(source: Plane, result: Plane, window: TapWindow) -> RowWork | None:
    """The rows of a pool; None where a window may lie in padding alone, for which a row of the border is read."""
    rows, last = window.rows, (result.height - 1) * window.strides[0] - window.pads[0]
    if rows.before >= rows.span or last >= source.height:
        return None
    return RowWork(source, result, rows, result.width * result.channels * window.taps[0] * window.taps[1])


@dataclass(frozen=True)
class Tap:
    """One element of a window.

    Args:
        source: where it lies.
        position: its pixel and channel, inside the plane.
        valid: whether it is no padding; None where it never is.
    """

    source: Plane
    position: Position
    valid: Expr | None

    def load(self, place: StageContext) -> Expr:
        """The vector there; one of the border where it is padding.

        It has a name: inside a selection, which reads both sides, its place would be simplified as if it were valid.
        """
        return place.b.let(place.b.load(place.memory["source"], self.position.within(self.source), place.lanes))


class Taps:
    """The taps of the window for a pixel of the result.

    Args:
        window: over the source.
        source: what is read.
        result: rows and pixels of the result.
        position: in the result.
    """

    def __init__(self, window: TapWindow, source: Plane, result: Plane, position: Position) -> None:
        self.window, self.source, self.position = window, source, position
        self.reaches_out = window.reaches_out((source.height, source.width), (result.height, result.width))

    def __iter__(self) -> Iterator[Tap]:
        y, x = self.window.start(self.position.y, self.position.x)
        for row in range(self.window.taps[0]):
            for column in range(self.window.taps[1]):
                yield self._tap(y + row * self.window.dilations[0], x + column * self.window.dilations[1])

    def _tap(self, y: Expr, x: Expr) -> Tap:
        sizes = (self.source.height, self.source.width)
        if not self.reaches_out:
            return Tap(self.source, Position(self.position.image, y, x, self.position.channel), None)
        valid = tirx.all(y >= 0, y < sizes[0], x >= 0, x < sizes[1])
        row, pixel = (tirx.max(tirx.min(place, size - 1), 0) for place, size in zip((y, x), sizes, strict=True))
        return Tap(self.source, Position(self.position.image, row, pixel, self.position.channel), valid)
