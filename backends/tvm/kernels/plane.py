"""How an activation lies in memory: pixels row by row, the channels of each together (NHWC), a halo around.

    element (image, y, x, channel)  at  image · size + ((y + top) · row_pixels + x + left) · stride + channel

The halo holds what padding reads: zeros, or the zero-point of codes, so that no kernel tests for borders. Rows of a
matrix are pixels of one line. ``stride`` is the number of channels rounded up to whole vectors: what lies behind the
channels is written with them, and read only where it is multiplied by weights of zero.
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
    """

    channels: int
    height: int
    width: int
    stride: int
    halo: Halo = Halo()
    dtype: str = "float32"

    @property
    def row_pixels(self) -> int:
        """Pixels from one row to the next."""
        return self.width + self.halo.left + self.halo.right

    @property
    def row(self) -> int:
        """Elements from one row to the next."""
        return self.row_pixels * self.stride

    @property
    def size(self) -> int:
        """Elements of an image."""
        return (self.height + self.halo.top + self.halo.bottom) * self.row

    def at(self, y: int | Expr, x: int | Expr) -> int | Expr:
        """Where the channels of a pixel begin, in its image; coordinates may lie in the halo."""
        return ((y + self.halo.top) * self.row_pixels + (x + self.halo.left)) * self.stride

    def flat(self) -> Plane:
        """The same memory as one row of pixels; only without a halo."""
        return replace(self, height=1, width=self.height * self.width) if self.halo == Halo() else self


def whole_vectors(channels: int, lanes: int) -> int:
    """Channels rounded up to whole vectors."""
    return -(-channels // lanes) * lanes
