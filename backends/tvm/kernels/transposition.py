"""Between tensors as users have them, channels before pixels (NCHW), and planes.

Vectors run along a row of pixels: contiguous on the side of the tensor, a stride apart in the plane. Stages see pixels
in the lanes, not channels: only those that treat all alike may stand here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat
from graphpress.backends.tvm.kernels.kernel import Operand
from graphpress.backends.tvm.kernels.pieces import halvings
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import RESULT, Place, Position, Stage, as_numbers, run_stages


@dataclass(frozen=True)
class ChannelsLast:
    """A float tensor ``[images, channels, height, width]`` as a plane, in floats or codes.

    Args:
        result: the plane.
        zero_point: of its codes.
        stages: from the numbers to those of the plane, in units of its scale.
    """

    result: Plane
    zero_point: int = 0
    stages: tuple[Stage, ...] = ()

    @property
    def operands(self) -> Sequence[Operand]:
        """The tensor and the plane."""
        return [Operand("source", FLOAT), Operand(RESULT, self.result.dtype)]

    def tasks(self, isa: Isa) -> int:
        """A task is a row."""
        return self.result.height

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All channels of one row."""
        plane = self.result
        image, row = b.let(task // plane.height), b.let(task % plane.height)
        for chunk in halvings(plane.width, isa.lanes):
            place = Place(b, isa, memory, chunk.size)
            with b.loop(chunk.pieces, "vector") as vector, b.loop(plane.channels, "channel") as channel:
                position = Position(image, row, chunk.start + vector * chunk.size, channel)
                value = b.load(memory["source"], _channels_first(plane, position), chunk.size)
                value = run_stages(self.stages, place, value, position)
                codes = value if plane.dtype == FLOAT else isa.codes(value, self.zero_point, chunk.size)
                b.store(memory[RESULT], position.within(plane), codes, chunk.size, plane.stride)


@dataclass(frozen=True)
class ChannelsFirst:
    """A plane as a float tensor ``[images, channels, height, width]``.

    Args:
        source: the plane, of floats or codes.
        zero_point: of its codes.
        stages: from the plane's numbers, less the zero-point, to those of the tensor.
    """

    source: Plane
    zero_point: int = 0
    stages: tuple[Stage, ...] = ()

    @property
    def operands(self) -> Sequence[Operand]:
        """The plane and the tensor."""
        return [Operand("source", self.source.dtype), Operand(RESULT, FLOAT)]

    def tasks(self, isa: Isa) -> int:
        """A task is a row."""
        return self.source.height

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All channels of one row."""
        plane = self.source
        image, row = b.let(task // plane.height), b.let(task % plane.height)
        for chunk in halvings(plane.width, isa.lanes):
            place = Place(b, isa, memory, chunk.size)
            with b.loop(chunk.pieces, "vector") as vector, b.loop(plane.channels, "channel") as channel:
                position = Position(image, row, chunk.start + vector * chunk.size, channel)
                value = b.gather(memory["source"], position.within(plane), chunk.size, plane.stride)
                if plane.dtype != FLOAT:
                    value = as_numbers(value, chunk.size) - splat(float(self.zero_point), chunk.size)
                result = run_stages(self.stages, place, value, position)
                b.store(memory[RESULT], _channels_first(plane, position), result, chunk.size)


def _channels_first(plane: Plane, position: Position) -> Expr:
    """Where an element lies in the tensor."""
    channel = position.image * plane.channels + position.channel
    return (channel * plane.height + position.y) * plane.width + position.x
