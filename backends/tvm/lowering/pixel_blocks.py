"""Convolutions to few channels: the channels of several pixels fill the vectors that those of one would leave empty.

    result[y, B·x + j, c] = Σ over taps t and channels of source[…, B·s·x + (j·s + t), …] · weight[c, …, t, …]

with B pixels to a block and a stride of s is a convolution to B · channels with a stride of B · s, whose weights are
those of the original, moved by j·s pixels, among zeros. Where pixels lie without gaps, results are in their places.
Pixels that are left over at the end of a row are computed in one more block, which reaches back over others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from graphpress.backends.tvm.kernels.pieces import pieces
from graphpress.backends.tvm.kernels.plane import Halo, Plane
from graphpress.backends.tvm.kernels.stages import TABLE
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.lowering.factors import Factors, channels_of
from graphpress.backends.tvm.lowering.fusion import ChainEnd
from graphpress.backends.tvm.program import Constant, Source

MOST_VECTORS = 4
"""Vectors that a block fills at most."""
WORTH, WORTH_OF_WINOGRAD = 0.75, 0.5
"""Share of the products at most that a block takes of those of single pixels, wasted ones counted; where the basis of
Winograd would save some, too.
"""


@dataclass(frozen=True)
class PixelBlock:
    """Neighboring pixels whose channels are computed together.

    Args:
        pixels: how many.
        window: of the convolution by single pixels.
    """

    pixels: int
    window: TapWindow

    def windows(self, width: int) -> Iterator[tuple[int, TapWindow]]:
        """The first pixel of each run of blocks, and the window that moves over it: whole blocks, then what is left."""
        (rows, _), (down, along), (dilation, _), (top, left) = self.window
        taps = (rows, _span(self.window) + (self.pixels - 1) * along)
        for first in dict.fromkeys((0, width - self.pixels)) if width % self.pixels else (0,):
            pads = (top, left - first * along)
            yield first, TapWindow(taps, (down, self.pixels * along), (dilation, 1), pads)

    def plane(self, plane: Plane, first: int) -> Plane:
        """Whole blocks of a plane without gaps, from a pixel on."""
        start, channels = plane.at(0, first), self.pixels * plane.channels
        assert isinstance(start, int)
        return replace(
            plane,
            channels=channels,
            width=1 if first else plane.width // self.pixels,
            stride=channels,
            halo=Halo(),
            start=start,
            row_step=plane.row,
            image_step=plane.size,
        )

    def factors(self, factors: Factors) -> Factors:
        """Weights and numbers of all pixels of a block."""
        outputs, inputs, rows, _ = factors.kernel.shape
        along, dilation = self.window.strides[1], self.window.dilations[1]
        span = _span(self.window)
        kernel = np.zeros((self.pixels, outputs, inputs, rows, span + (self.pixels - 1) * along), factors.kernel.dtype)
        for pixel in range(self.pixels):
            kernel[pixel, ..., pixel * along : pixel * along + span : dilation] = factors.kernel
        bias = np.tile(factors.bias, self.pixels)
        return replace(factors, kernel=kernel.reshape(-1, *kernel.shape[2:]), bias=bias)

    def operands(self, operands: Mapping[str, Source], channels: int) -> dict[str, Source]:
        """What stages read of so many channels, for all pixels of a block."""
        return {name: self._repeated(operand, channels) for name, operand in operands.items()}

    def _repeated(self, operand: Source, channels: int) -> Source:
        numbers = channels_of(operand)
        return operand if numbers is None else Constant(np.tile(numbers.reshape(-1)[:channels], self.pixels))


def pixel_block(
    plane: Plane, window: TapWindow, operands: Mapping[str, Source], lanes: int, worth: float = WORTH
) -> PixelBlock | None:
    """The block that takes the fewest products; None where single pixels are as good, or stages tell them apart.

    Args:
        plane: of the result.
        window: the taps.
        operands: what stages read.
        lanes: of a vector.
        worth: the share of single pixels' products that it may take.
    """
    filled = range(lanes, MOST_VECTORS * lanes + 1, lanes)
    sizes = [size for size in range(2, plane.width + 1) if size * plane.channels in filled]
    if plane.channels >= lanes or not sizes or not all(map(_repeats, operands.items())):
        return None
    costs = {size: _products(plane, window, size, lanes) for size in sizes}
    best = min(sizes, key=costs.__getitem__)
    single = plane.width * window.taps[1]
    return PixelBlock(best, window) if costs[best] <= worth * single else None


def blocks_of(target: ChainEnd, block: PixelBlock) -> Iterator[tuple[ChainEnd, TapWindow]]:
    """Where each run of blocks of a result goes, and the window that moves over it."""
    plane = target.operand.plane
    epilogue = replace(target.epilogue, operands=block.operands(target.epilogue.operands, plane.channels))
    for first, window in block.windows(plane.width):
        operand = replace(target.operand, plane=block.plane(plane, first))
        yield replace(target, operand=operand, epilogue=epilogue), window


def _span(window: TapWindow) -> int:
    """Pixels from the first tap of a row to the last."""
    return (window.taps[1] - 1) * window.dilations[1] + 1


def _products(plane: Plane, window: TapWindow, size: int, lanes: int) -> int:
    """Steps of a row's reductions, for each vector of results."""
    taps = _span(window) + (size - 1) * window.strides[1]
    return pieces(int(plane.width), size) * (size * plane.channels // lanes) * taps


def _repeats(named: tuple[str, Source]) -> bool:
    """Whether an operand of a stage is the same for all pixels."""
    name, operand = named
    return (
        name == TABLE or channels_of(operand) is not None or (isinstance(operand, Constant) and operand.array.size == 1)
    )
