"""What depends on all channels of a pixel: softmax and normalizations.

    softmax        exp(x - max) / Σ exp(x - max)
    layer norm     (x - mean) / √(mean((x - mean)²) + ε) · γ + β
    RMS norm       x / √(mean(x²) + ε) · γ

Sums run over whole vectors and, at the end of the channels, over smaller ones; lanes are added at the very end. The
mean is subtracted before squares are summed, so that a large mean costs no digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.functions import exp
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, folded, splat
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import halvings
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import RESULT, Destination, Position, StageContext, VectorStage, run_stages

Combine = Callable[[Expr, Expr], Expr]


def _sum(left: Expr, right: Expr) -> Expr:
    return left + right


class Row:
    """The channels of one pixel.

    Args:
        b: takes the statements.
        isa: the instruction set.
        memory: what the operands of the kernel point to.
        position: of the pixel.
        channels: how many there are.
    """

    def __init__(
        self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], position: Position, channels: int
    ) -> None:
        self.b, self.isa, self.memory, self.position, self.channels = b, isa, memory, position, channels

    def vectors(self) -> Iterator[tuple[StageContext, Position]]:
        """All vectors of the row: what is emitted while one is given is the body of a loop over those like it."""
        for chunk in halvings(self.channels, self.isa.lanes):
            with self.b.loop(chunk.pieces, "vector") as vector:
                place = StageContext(self.b, self.isa, self.memory, chunk.size)
                yield place, self.position.moved(chunk.start + vector * chunk.size)

    def reduce(self, value: Callable[[StageContext, Position], Expr], combine: Combine, start: float) -> Expr:
        """A number from all vectors.

        Args:
            value: of a vector.
            combine: two of them.
            start: what changes nothing.
        """
        sums: dict[int, Memory] = {}
        for chunk in halvings(self.channels, self.isa.lanes):
            sums[chunk.size] = self.b.registers(chunk.size, FLOAT)
            self.b.store(sums[chunk.size], 0, splat(start, chunk.size), chunk.size)
        for place, position in self.vectors():
            total = combine(self.b.load(sums[place.lanes], 0, place.lanes), value(place, position))
            self.b.store(sums[place.lanes], 0, total, place.lanes)
        result = None
        for lanes, memory in sums.items():
            number = folded(self.b, self.b.load(memory, 0, lanes), lanes, combine)
            result = number if result is None else combine(result, number)
        return self.b.let(result)

    def load(self, place: StageContext, position: Position, plane: Plane) -> Expr:
        """A vector of the source."""
        return place.activation("source", plane, position)


@dataclass(frozen=True)
class Softmax:
    """Softmax over the channels of each pixel.

    Args:
        source: floats.
        store: what it writes.
        stages: after it.
    """

    source: Plane
    store: Destination
    stages: tuple[VectorStage, ...] = ()

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, what the stages read, and the result."""
        extra = [operand for stage in self.stages for operand in stage.operands]
        return [Pointer("source", FLOAT), *extra, Pointer(RESULT, self.store.plane.dtype)]

    def tasks(self, isa: Isa) -> int:
        """A task is a pixel."""
        return self.source.height * self.source.width

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """The channels of one pixel, three times: for the largest, for the sum, and for the quotients."""
        row = Row(b, isa, memory, pixel_of(b, self.source, task), self.source.channels)
        largest = row.reduce(lambda place, at: row.load(place, at, self.source), tirx.max, float("-inf"))

        def exponential(place: StageContext, at: Position) -> Expr:
            return exp(b, row.load(place, at, self.source) - splat(largest, place.lanes), place.lanes)

        total = row.reduce(exponential, _sum, 0.0)
        for place, at in row.vectors():
            quotient = exponential(place, at) / splat(total, place.lanes)
            self.store.write(place, run_stages(self.stages, place, quotient, at), at)


@dataclass(frozen=True)
class RowNormalization:
    """Layer or RMS normalization over the channels of each pixel.

    Args:
        source: floats.
        store: what it writes.
        epsilon: added to the variance.
        centered: whether the mean is subtracted.
        shifted: whether a bias is added.
        stages: after it.
    """

    source: Plane
    store: Destination
    epsilon: float
    centered: bool = True
    shifted: bool = True
    stages: tuple[VectorStage, ...] = ()

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, scale and bias per channel, what the stages read, and the result."""
        fixed = [Pointer("source", FLOAT), Pointer("scale", FLOAT), *([Pointer("bias", FLOAT)] if self.shifted else [])]
        extra = [operand for stage in self.stages for operand in stage.operands]
        return [*fixed, *extra, Pointer(RESULT, self.store.plane.dtype)]

    def tasks(self, isa: Isa) -> int:
        """A task is a pixel."""
        return self.source.height * self.source.width

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """The channels of one pixel: for the mean, for the variance, and for the result."""
        channels = self.source.channels
        row = Row(b, isa, memory, pixel_of(b, self.source, task), channels)
        mean: Expr = splat(0.0, 1)
        if self.centered:
            total = row.reduce(lambda place, at: row.load(place, at, self.source), _sum, 0.0)
            mean = b.let(total * splat(1 / channels, 1))

        def deviation(place: StageContext, at: Position) -> Expr:
            return b.let(row.load(place, at, self.source) - splat(mean, place.lanes))

        def square(place: StageContext, at: Position) -> Expr:
            value = deviation(place, at)
            return value * value

        variance = row.reduce(square, _sum, 0.0) * splat(1 / channels, 1)
        factor = b.let(splat(1.0, 1) / tirx.sqrt(variance + splat(self.epsilon, 1)))
        for place, at in row.vectors():
            scale = b.load(memory["scale"], at.channel, place.lanes)
            value = deviation(place, at) * splat(factor, place.lanes) * scale
            if self.shifted:
                value = value + b.load(memory["bias"], at.channel, place.lanes)
            self.store.write(place, run_stages(self.stages, place, value, at), at)


def pixel_of(b: KernelBuilder, plane: Plane, task: Expr) -> Position:
    """The pixel that a task is, where each is one."""
    pixels = plane.height * plane.width
    image, pixel = b.let(task // pixels), b.let(task % pixels)
    return Position(image, b.let(pixel // plane.width), b.let(pixel % plane.width), 0)
