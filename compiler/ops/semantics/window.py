"""Windows that slide over space: those of convolutions and pools.

A window of ``taps`` taps that are ``dilation`` apart reaches over ``extent = (taps - 1) · dilation + 1`` elements, and
has ``(size + before + after - extent) / stride + 1`` places, rounded down, or up with ``ceil_mode``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphpress.ir import NodeView

Pads = tuple[tuple[int, int], ...]
"""Padding before and after, per spatial axis."""

OPEN = -1
"""The size of an axis that is not known."""


@dataclass(frozen=True)
class WindowAttributes:
    """What a node says of its window, before the number of axes is known.

    Args:
        strides: per spatial axis; None for ones.
        dilations: per spatial axis; None for ones.
        pads: padding before all axes, then after all; None for none.
        auto_pad: ``SAME_UPPER`` or ``SAME_LOWER`` where padding keeps the size (divided by the stride), else empty.
        ceil: whether a last window that does not fit whole counts.
    """

    strides: tuple[int, ...] | None
    dilations: tuple[int, ...] | None
    pads: tuple[int, ...] | None
    auto_pad: str
    ceil: bool

    @staticmethod
    def of(node: NodeView) -> WindowAttributes:
        """Those of a node."""
        auto_pad = node.text("auto_pad", "NOTSET")
        return WindowAttributes(
            node.integers("strides"),
            node.integers("dilations"),
            None if auto_pad == "VALID" else node.integers("pads"),
            auto_pad if auto_pad.startswith("SAME") else "",
            node.flag("ceil_mode"),
        )

    def over(self, kernel: Sequence[int], size: Sequence[int]) -> Window:
        """The window with so many taps per spatial axis, over data of this spatial size (-1 where it is open)."""
        ones = (1,) * len(kernel)
        window = Window(
            tuple(kernel),
            self.strides or ones,
            self.dilations or ones,
            None if self.auto_pad else _pairs(self.pads, len(kernel)),
            self.auto_pad,
            self.ceil,
            tuple(size),
        )
        return window.padded(window.same()) if window.pads is None and window.known else window


@dataclass(frozen=True)
class Window:
    """How a window slides over data with these spatial axes.

    Args:
        kernel: taps.
        strides: steps from one place to the next.
        dilations: steps from one tap to the next.
        pads: padding, None where it is such that the size stays (divided by the stride) and the size is not known.
        auto_pad: ``SAME_UPPER`` or ``SAME_LOWER``, with the larger half behind or before, for such padding; else empty.
        ceil: whether a last window that does not fit whole counts.
        size: of the data, -1 where it is open.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads | None
    auto_pad: str
    ceil: bool
    size: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """How far the window reaches, from its first tap to its last."""
        return tuple((taps - 1) * step + 1 for taps, step in zip(self.kernel, self.dilations, strict=True))

    @property
    def upper(self) -> bool:
        """Whether the larger half of padding goes behind the data."""
        return self.auto_pad == "SAME_UPPER"

    @property
    def known(self) -> bool:
        """Whether the size of the data is known."""
        return OPEN not in self.size

    @property
    def padding(self) -> Pads:
        """The padding, which is known.

        Raises:
            ValueError: it follows from a size that is open.
        """
        if self.pads is None:
            raise ValueError("the padding follows from an open size")
        return self.pads

    def padded(self, pads: Pads) -> Window:
        """The same window over data that is padded so."""
        return replace(self, pads=pads)

    def same(self) -> Pads:
        """Padding that keeps the size, divided by the stride."""
        axes = zip(self.size, self.extent, self.strides, strict=True)
        totals = (max(0, (-(-length // stride) - 1) * stride + extent - length) for length, extent, stride in axes)
        return tuple(halves(total, self.upper) for total in totals)

    def whole(self) -> Pads:
        """Padding such that whole steps just fit: a rounded-up last window is filled, a rest is cut off (negative).

        The last window begins inside the data or the padding before it.
        """
        result = []
        for axis, (before, after) in enumerate(self.padding):
            stride, extent, size = self.strides[axis], self.extent[axis], self.size[axis]
            slack = size + before + after - extent
            steps = -(-slack // stride) if self.ceil else slack // stride
            if self.ceil and steps * stride >= size + before:
                steps -= 1
            result.append((before, steps * stride + extent - size - before))
        return tuple(result)

    def transposed(self, extra: Sequence[int], output_shape: Sequence[int] | None) -> Pads:
        """What a transposed convolution takes off its whole result: as given, or such that it has the size asked for.

        Args:
            extra: elements that ``output_padding`` adds at the end of each axis.
            output_shape: the size asked for, whose last numbers are those of the spatial axes; the data has a known
                size then.

        Returns:
            What is taken off before and after; negative after, where more is asked for than there is.
        """
        if output_shape is not None:
            wanted = output_shape[-len(self.kernel) :]
            axes = zip(self.size, self.strides, self.extent, extra, wanted, strict=True)
            totals = [stride * (size - 1) + extent + more - want for size, stride, extent, more, want in axes]
            return tuple(halves(total, self.upper) if total >= 0 else (0, total) for total in totals)
        if not self.auto_pad:
            return self.padding
        # The size of the data cancels: stride · (size - 1) + extent + extra - stride · size.
        ends = zip(self.extent, extra, self.strides, strict=True)
        return tuple(halves(max(extent + more - stride, 0), self.upper) for extent, more, stride in ends)


def halves(total: int, upper: bool) -> tuple[int, int]:
    """Padding before and after; the larger half behind where ``upper``."""
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def _pairs(pads: Sequence[int] | None, rank: int) -> Pads:
    return ((0, 0),) * rank if pads is None else tuple(zip(pads[:rank], pads[rank:], strict=True))
