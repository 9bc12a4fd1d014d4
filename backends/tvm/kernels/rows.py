"""What depends on all channels of a pixel: softmax and normalizations.

    softmax        exp(x - max) / Σ exp(x - max)            its logarithm is  (x - max) - log Σ exp(x - max)
    layer norm     (x - mean) / √(mean((x - mean)²) + ε) · γ + β
    RMS norm       x / √(mean(x²) + ε) · γ

Sums run over whole vectors and, at the end of the channels, over smaller ones; lanes are added at the very end. The
mean is subtracted before squares are summed, so that a large mean costs no digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory, index
from graphpress.backends.tvm.codegen.extent import Extent
from graphpress.backends.tvm.codegen.functions import exp, log
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, folded, splat
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import each_piece, halvings
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorStage,
    operands_between,
    operands_of,
    run_stages,
)

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
            with each_piece(self.b, self.channels, chunk, "vector") as vector:
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
            total = self._counted(combine, value(place, position), sums[place.lanes], place.lanes, position, start)
            self.b.store(sums[place.lanes], 0, total, place.lanes)
        result = None
        for lanes, memory in sums.items():
            number = folded(self.b, self.b.load(memory, 0, lanes), lanes, combine)
            result = number if result is None else combine(result, number)
        return self.b.let(result)

    def _counted(
        self, combine: Combine, value: Expr, sums: Memory, lanes: int, position: Position, start: float
    ) -> Expr:
        """A sum with a value more; of channels that this run has not, with what changes nothing."""
        if isinstance(self.channels, Extent):
            within = (
                tirx.Ramp(index(position.channel), tirx.const(1, "int32"), lanes) if lanes > 1 else position.channel
            )
            end = splat(self.b.value(self.channels), lanes, "int32")
            value = self.b.select(within < end, value, splat(start, lanes))
        return combine(self.b.load(sums, 0, lanes), value)

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
        logarithm: whether the logarithm of it is what is asked for.
    """

    source: Plane
    store: Destination
    stages: tuple[VectorStage, ...] = ()
    logarithm: bool = False
    takes_open: ClassVar[bool] = True

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, what the stages read, and the result."""
        return operands_between(FLOAT, self.stages, self.store.plane.dtype)

    def tasks(self, isa: Isa) -> int:
        """A task is a pixel."""
        return int(self.source.height * self.source.width)

    def task_grid(self, isa: Isa) -> tuple[int, int]:
        """Rows and pixels."""
        return self.source.height, self.source.width

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """The channels of one pixel, three times: for the largest, for the sum, and for the quotients."""
        row = Row(b, isa, memory, pixel_of(b, self.source, task), self.source.channels)
        largest = row.reduce(lambda place, at: row.load(place, at, self.source), tirx.max, float("-inf"))

        def below(place: StageContext, at: Position) -> Expr:
            return row.load(place, at, self.source) - splat(largest, place.lanes)

        total = row.reduce(lambda place, at: exp(b, below(place, at), place.lanes), _sum, 0.0)
        factor = b.let(log(b, total, 1) if self.logarithm else splat(1.0, 1) / total)
        for place, at in row.vectors():
            spread, value = splat(factor, place.lanes), below(place, at)
            result = value - spread if self.logarithm else exp(b, value, place.lanes) * spread
            self.store.write(place, run_stages(self.stages, place, result, at), at)


@dataclass(frozen=True)
class RowNormalization:
    """Layer or RMS normalization over the channels of each pixel.

    Args:
        source: floats.
        store: what it writes.
        epsilon: added to the variance.
        centered: whether the mean is subtracted.
        scaled: whether each channel is multiplied by a number of its own.
        shifted: whether a bias is added.
        stages: after it.
    """

    source: Plane
    store: Destination
    epsilon: float
    centered: bool = True
    scaled: bool = True
    shifted: bool = True
    stages: tuple[VectorStage, ...] = ()

    @property
    def takes_open(self) -> bool:
        """Means are those of all channels."""
        return not isinstance(self.source.channels, Extent)

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, scale and bias per channel, what the stages read, and the result."""
        given = {"source": True, "scale": self.scaled, "bias": self.shifted}
        fixed = [Pointer(name, FLOAT) for name, is_given in given.items() if is_given]
        return [*fixed, *operands_of(self.stages), Pointer(RESULT, self.store.plane.dtype)]

    def tasks(self, isa: Isa) -> int:
        """A task is a pixel."""
        return int(self.source.height * self.source.width)

    def task_grid(self, isa: Isa) -> tuple[int, int]:
        """Rows and pixels."""
        return self.source.height, self.source.width

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
            value = deviation(place, at) * splat(factor, place.lanes)
            if self.scaled:
                value = value * b.load(memory["scale"], at.channel, place.lanes)
            if self.shifted:
                value = value + b.load(memory["bias"], at.channel, place.lanes)
            self.store.write(place, run_stages(self.stages, place, value, at), at)


def pixel_of(b: KernelBuilder, plane: Plane, task: Expr) -> Position:
    """The pixel that a task is, where each is one."""
    pixels = plane.height * plane.width
    image, pixel = b.let(task // pixels), b.let(task % pixels)
    return Position(image, b.let(pixel // plane.width), b.let(pixel % plane.width), 0)
