"""Reductions over rows, pixels or channels, or any of them together.

    result[kept axes] = stages(fold over the reduced axes of f(source[y, x, c] - zero_point))

Means, norms and their like are a fold of this kind with stages behind it, their number of elements part of the units.
Codes are summed as integers. Channels that are kept stay in the lanes; where they are reduced the lanes are folded at
the very end. Several sums run beside each other, so that none waits for its own last addition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import ClassVar

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.extent import Extent
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, folded, splat, typed
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import Chunk, chunks_of_run, halvings, pieces
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import (
    Destination,
    Position,
    StageContext,
    VectorStage,
    numbers_in,
    operands_between,
    run_stages,
)

BESIDE = 4
"""Sums that run beside each other."""


@dataclass(frozen=True)
class Fold:
    """How numbers are reduced.

    Args:
        start: what changes nothing.
        combine: two numbers.
        of: what is made of a number before.
    """

    start: float
    combine: Callable[[Expr, Expr], Expr]
    of: Callable[[Expr], Expr] = lambda number: number


def _add(left: Expr, right: Expr) -> Expr:
    return left + right


FOLDS: Mapping[str, Fold] = MappingProxyType(
    {
        "max": Fold(float("-inf"), tirx.max),
        "min": Fold(float("inf"), tirx.min),
        "product": Fold(1.0, lambda left, right: left * right),
        "sum": Fold(0.0, _add),
        "sum_of_magnitudes": Fold(0.0, _add, tirx.abs),
        "sum_of_squares": Fold(0.0, _add, lambda number: number * number),
    }
)
"""Folds by name."""


@dataclass(frozen=True)
class Reduce:
    """A reduction.

    Args:
        source: what it reads; its halo is not read.
        store: what it writes: one row, pixel or channel where they are reduced.
        fold: a key of ``FOLDS``.
        axes: whether rows, pixels and channels are reduced.
        stages: after it.
        zero_point: of the source's codes.
    """

    source: Plane
    store: Destination
    fold: str
    axes: tuple[bool, bool, bool]
    stages: tuple[VectorStage, ...] = ()
    zero_point: int = 0
    takes_open: ClassVar[bool] = True

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, what the stages read, and the result."""
        return operands_between(self.source.dtype, self.stages, self.store.plane.dtype)

    @property
    def integer(self) -> bool:
        """Whether codes are summed as they are."""
        return self.source.dtype != FLOAT and self.fold == "sum"

    def kept(self, isa: Isa) -> tuple[int, int, int]:
        """Rows, pixels, and vectors of channels of the result."""
        source = self.source
        extents = (source.height, source.width, pieces(source.channels, isa.lanes))
        rows, pixels, vectors = (1 if reduced else extent for reduced, extent in zip(self.axes, extents, strict=True))
        return rows, pixels, vectors

    def tasks(self, isa: Isa) -> int:
        """A task is a vector of channels of the result; the last may be done by halves."""
        return math.prod(map(int, self.task_grid(isa)))

    def task_grid(self, isa: Isa) -> tuple[int, int, int]:
        """What is kept."""
        return self.kept(isa)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All that goes into one vector; the last vector reads what lies behind the channels, too."""
        _, pixels, vectors = self.kept(isa)
        image, rest = b.let(task // self.tasks(isa)), b.let(task % self.tasks(isa))
        y, x = b.let(rest // (pixels * vectors)), b.let(rest // vectors % pixels)
        position = Position(image, y, x, b.let(rest % vectors * isa.lanes))
        writer = _Reduction(self, b, isa, memory, position)
        lanes = 1 if self.axes[2] else isa.lanes
        place = StageContext(b, isa, memory, lanes)
        total = writer.total().astype(typed(FLOAT, lanes))
        self.store.write(place, run_stages(self.stages, place, total, position), position)


class _Reduction:
    """Writes the code of one task.

    Args:
        kernel: what is computed.
        b: takes the statements.
        isa: the instruction set.
        memory: what the operands point to.
        position: of the result.
    """

    def __init__(
        self, kernel: Reduce, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], position: Position
    ) -> None:
        self.kernel, self.b, self.isa, self.memory, self.position = kernel, b, isa, memory, position
        self.fold, self.dtype = FOLDS[kernel.fold], "int32" if kernel.integer else FLOAT

    def total(self) -> Expr:
        """The vector, or the one number of all channels; less the zero-points of integers."""
        if not self.kernel.axes[2]:
            return self._less_zeros(self._over_pixels(Chunk(0, 1, self.isa.lanes)))
        result = None
        for chunk in self._vectors():
            vector = self._over_pixels(chunk)
            number = folded(self.b, vector, chunk.size, self.fold.combine)
            result = number if result is None else self.fold.combine(result, number)
        return self._less_zeros(result)

    def _vectors(self) -> list[Chunk]:
        """All channels in vectors, and what is left; where a run says how many there are, one by one."""
        channels, lanes = self.kernel.source.channels, self.isa.lanes
        return chunks_of_run(self.b, channels, lanes, 1) if isinstance(channels, Extent) else halvings(channels, lanes)

    def _less_zeros(self, total: Expr) -> Expr:
        if not self.kernel.integer:
            return total
        source, reduced = self.kernel.source, self.kernel.axes
        extents = (source.height, source.width, source.channels)
        count = self.b.value(math.prod(extent for extent, gone in zip(extents, reduced, strict=True) if gone))
        return total - splat(self.kernel.zero_point * count, 1 if reduced[2] else self.isa.lanes, "int32")

    def _over_pixels(self, chunk: Chunk) -> Expr:
        """All vectors like those of a chunk, of all rows and pixels."""
        b, (over_rows, over_pixels, _) = self.b, self.kernel.axes
        rows = self.kernel.source.height if over_rows else 1
        pixels = self.kernel.source.width if over_pixels else 1
        count, others = (pixels, chunk.pieces) if pixels > 1 else (chunk.pieces, 1)
        known = isinstance(count, int)
        beside = min(BESIDE, int(count)) if known else 1
        sums = self._start(beside, chunk.size)
        for part in chunks_of_run(b, count, BESIDE, 1) if known else [Chunk(0, count, 1)]:
            with b.loop(rows, "row") as row, b.loop(others, "other") as other, b.loop(part.pieces, "piece") as piece:
                for place in range(part.size):
                    number = part.start + piece * part.size + place
                    x, vector = (number, other) if pixels > 1 else (0, number)
                    self._add(sums, place * chunk.size, self._value(row, x, chunk, vector), chunk.size)
        loaded = [b.load(sums, number * chunk.size, chunk.size) for number in range(beside)]
        return b.let(reduce(self.fold.combine, loaded))

    def _start(self, count: int, lanes: int) -> Memory:
        sums = self.b.registers(count * lanes, self.dtype)
        start = int(self.fold.start) if self.kernel.integer else self.fold.start
        for number in range(count):
            self.b.store(sums, number * lanes, splat(start, lanes, self.dtype), lanes)
        return sums

    def _add(self, sums: Memory, at: int, value: Expr, lanes: int) -> None:
        self.b.store(sums, at, self.fold.combine(self.b.load(sums, at, lanes), value), lanes)

    def _value(self, row: Expr, x: Expr, chunk: Chunk, vector: Expr) -> Expr:
        """A vector of the source as it goes into the fold."""
        kernel, lanes, corner = self.kernel, chunk.size, self.position
        y, x = (row if kernel.axes[0] else corner.y), (x if kernel.axes[1] else corner.x)
        channel = chunk.start + vector * lanes + (0 if kernel.axes[2] else corner.channel)
        offset = Position(corner.image, y, x, channel).within(kernel.source)
        if kernel.integer:
            return self.b.load(self.memory["source"], offset, lanes).astype(typed("int32", lanes))
        value = self.b.load(self.memory["source"], offset, lanes)
        value = numbers_in(value, lanes, kernel.source.dtype, kernel.zero_point)
        return self.fold.of(self.b.let(value))
