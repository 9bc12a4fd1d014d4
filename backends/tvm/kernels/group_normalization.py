"""Normalization over the pixels of an image: of each channel by itself, or of groups of channels.

    (x - mean) / √(mean((x - mean)²) + ε) · γ + β        means over all pixels, and over the channels of a group

Instance normalization is the case of one channel a group: each lane has a mean of its own. The mean is subtracted
before squares are summed, so that a large mean costs no digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, folded, splat
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import Chunk, halvings
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import (
    RESULT,
    Destination,
    Position,
    StageContext,
    VectorStage,
    operands_of,
    run_stages,
)


@dataclass(frozen=True)
class GroupNormalizationKernel:
    """Normalization over pixels and groups of channels.

    Args:
        source: floats.
        store: what it writes.
        group: channels of a group; 1 normalizes each channel by itself.
        rows: of pixels that are normalized together.
        epsilon: added to the variance.
        stages: after it.
    """

    source: Plane
    store: Destination
    group: int
    rows: int
    epsilon: float
    stages: tuple[VectorStage, ...] = ()

    @property
    def operands(self) -> Sequence[Pointer]:
        """The source, scale and bias per channel, what the stages read, and the result."""
        fixed = [Pointer("source", FLOAT), Pointer("scale", FLOAT), Pointer("bias", FLOAT)]
        return [*fixed, *operands_of(self.stages), Pointer(RESULT, self.store.plane.dtype)]

    def spans(self, isa: Isa) -> int:
        """Groups, or vectors of channels where each is normalized by itself."""
        if self.group > 1:
            return self.source.channels // self.group
        return sum(chunk.pieces for chunk in halvings(self.source.channels, isa.lanes))

    def tasks(self, isa: Isa) -> int:
        """A task is one span of the channels of rows that are normalized together."""
        return self.spans(isa) * (self.source.height // self.rows)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """Three times through the pixels: for the mean, for the variance, and for the result."""
        spans, parts = self.spans(isa), self.source.height // self.rows
        number, part = b.let(task % spans), b.let(task // spans)
        corner = Position(b.let(part // parts), b.let(part % parts * self.rows), 0, 0)
        place = StageContext(b, isa, memory, isa.lanes)
        if self.group > 1:
            first = corner.moved(b.let(number * self.group))
            _Span(self, place, first, halvings(self.group, isa.lanes)).write()
            return
        before = 0
        for chunk in halvings(self.source.channels, isa.lanes):
            with b.when(tirx.all(number >= before, number < before + chunk.pieces)):
                first = corner.moved(b.let(chunk.start + (number - before) * chunk.size))
                _Span(self, place, first, [Chunk(0, 1, chunk.size)]).write()
            before += chunk.pieces


class _Span:
    """Writes the code for channels with statistics in common, or for one vector of channels each with its own.

    Args:
        kernel: what is computed.
        place: where to.
        corner: the first channel of the first pixel.
        chunks: of the channels, from the first on.
    """

    def __init__(
        self, kernel: GroupNormalizationKernel, place: StageContext, corner: Position, chunks: Sequence[Chunk]
    ) -> None:
        self.kernel, self.place, self.b = kernel, place, place.b
        self.corner, self.chunks = corner, chunks

    def write(self) -> None:
        """Mean, variance, results."""
        mean = self._mean(self._load)

        def deviation(place: StageContext, at: Position) -> Expr:
            return self.b.let(self._load(place, at) - splat_lanes(mean, place.lanes, self.shared))

        def square(place: StageContext, at: Position) -> Expr:
            value = deviation(place, at)
            return value * value

        lanes = 1 if self.shared else self.chunks[0].size
        variance = self._mean(square) + splat(self.kernel.epsilon, lanes)
        factor = self.b.let(splat(1.0, lanes) / tirx.sqrt(variance))
        for place, at in self._vectors():
            scale = self.b.load(place.memory["scale"], at.channel, place.lanes)
            bias = self.b.load(place.memory["bias"], at.channel, place.lanes)
            value = deviation(place, at) * splat_lanes(factor, place.lanes, self.shared) * scale + bias
            self.kernel.store.write(place, run_stages(self.kernel.stages, place, value, at), at)

    @property
    def shared(self) -> bool:
        """Whether all channels have their statistics in common."""
        return self.kernel.group > 1

    def _load(self, place: StageContext, at: Position) -> Expr:
        return place.activation("source", self.kernel.source, at)

    def _vectors(self) -> Iterator[tuple[StageContext, Position]]:
        """All vectors: what is emitted while one is given is the body of loops over those like it."""
        corner, plane = self.corner, self.kernel.source
        with self.b.loop(self.kernel.rows, "row") as row, self.b.loop(plane.width, "pixel") as pixel:
            for chunk in self.chunks:
                with self.b.loop(chunk.pieces, "vector") as vector:
                    channel = corner.channel + (chunk.start + vector * chunk.size)
                    place = StageContext(self.b, self.place.isa, self.place.memory, chunk.size)
                    yield place, Position(corner.image, corner.y + row, pixel, channel)

    def _mean(self, value: Callable[[StageContext, Position], Expr]) -> Expr:
        """Of what all vectors have; one number where they share it, else one of each lane."""
        sums: dict[int, Memory] = {}
        for chunk in self.chunks:
            sums[chunk.size] = self.b.registers(chunk.size, FLOAT)
            self.b.store(sums[chunk.size], 0, splat(0.0, chunk.size), chunk.size)
        for place, at in self._vectors():
            total = self.b.load(sums[place.lanes], 0, place.lanes) + value(place, at)
            self.b.store(sums[place.lanes], 0, total, place.lanes)
        plane, lanes = self.kernel.source, self.chunks[0].size
        count = self.kernel.rows * plane.width * self.kernel.group
        if not self.shared:
            return self.b.let(self.b.load(sums[lanes], 0, lanes) * splat(1 / count, lanes))
        folds = [
            folded(self.b, self.b.load(memory, 0, size), size, lambda left, right: left + right)
            for size, memory in sums.items()
        ]
        return self.b.let(sum(folds[1:], folds[0]) * splat(1 / count, 1))


def splat_lanes(number: Expr, lanes: int, shared: bool) -> Expr:
    """A number of all lanes in each of them; one that has lanes already as it is."""
    return splat(number, lanes) if shared else number
