"""How an activation lies in memory: pixels row by row, the channels of each together (NHWC), a halo around.

    element (image, y, x, channel)  at  image · size + start + (y + top) · row + (x + left) · stride + channel

The halo holds what padding reads: zeros, or the zero-point of codes, so that no kernel tests for borders. Rows of a
matrix are pixels of one line. ``stride`` is the number of channels rounded up to whole vectors: what lies behind the
channels is written with them, and read only where it is multiplied by weights of zero.

Extents may be open (``Extent``): their maxima lay the plane out, and what lies behind a run's own is nobody's.

A plane may be a part of another: some of its channels, an area, or every other pixel. What is written there is in its
place already: a part of a concatenation, the inside of a padded value, one phase of a transposed convolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphpress.backends.tvm.codegen.builder import Expr


@dataclass(frozen=True)
class Halo:
    """Pixels around an activation."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0

    def around(self, other: Halo) -> Halo:
        """The smallest halo that holds both."""
        sides = zip(self.sides, other.sides, strict=True)
        return Halo(*(max(pair) for pair in sides))

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right."""
        return self.top, self.left, self.bottom, self.right


@dataclass(frozen=True)
class Plane:
    """The layout of an activation.

    Args:
        channels: that mean something.
        height: rows.
        width: pixels of a row.
        stride: elements from a pixel to the next.
        halo: pixels around.
        dtype: type of the elements, by numpy's name.
        start: elements before the first, of a part.
        row_step: elements from one row to the next, of a part; 0 where rows follow each other.
        image_step: elements from one image to the next, of a part; 0 where all images share one; None where images
            follow each other.
    """

    channels: int
    height: int
    width: int
    stride: int
    halo: Halo = Halo()
    dtype: str = "float32"
    start: int = 0
    row_step: int = 0
    image_step: int | None = None

    @property
    def row_pixels(self) -> int:
        """Pixels from one row to the next."""
        return self.width + self.halo.left + self.halo.right

    @property
    def row(self) -> int:
        """Elements from one row to the next."""
        return self.row_step or int(self.row_pixels * self.stride)

    @property
    def size(self) -> int:
        """Elements from one image to the next."""
        if self.image_step is not None:
            return self.image_step
        return int((self.height + self.halo.top + self.halo.bottom) * self.row)

    @property
    def is_dense(self) -> bool:
        """Whether nothing lies behind the channels of a pixel."""
        return self.stride == int(self.channels)

    @property
    def is_part(self) -> bool:
        """Whether something else lies between its elements."""
        return self.row_step > 0

    def at(self, y: int | Expr, x: int | Expr) -> int | Expr:
        """Where the channels of a pixel begin, in its image; coordinates may lie in the halo."""
        return self.start + (y + self.halo.top) * self.row + (x + self.halo.left) * self.stride

    def part(self, first: int, channels: int) -> Plane:
        """So many channels from one on, with what the halo holds of them."""
        return replace(self, channels=channels, start=self.start + first, row_step=self.row, image_step=self.size)

    def area(self, top: int, left: int, height: int, width: int, steps: tuple[int, int] = (1, 1)) -> Plane:
        """So many rows and pixels from one on, one in so many; without a halo."""
        start = self.at(top, left)
        assert isinstance(start, int)
        return replace(
            self,
            height=height,
            width=width,
            stride=self.stride * steps[1],
            halo=Halo(),
            start=start,
            row_step=self.row * steps[0],
            image_step=self.size,
        )

    def shared(self) -> Plane:
        """The same for all images."""
        return replace(self, image_step=0)

    def flat(self) -> Plane:
        """The same memory as one row of pixels; only where nothing lies between rows."""
        alone = self.halo == Halo() and self.row == self.width * self.stride
        return replace(self, height=1, width=self.height * self.width) if alone else self


def whole_vectors(channels: int, lanes: int) -> int:
    """Channels rounded up to whole vectors."""
    return int(-(-channels // lanes) * lanes)
