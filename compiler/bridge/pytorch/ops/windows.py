"""Windows that slide over space: strides, dilations and padding of convolutions and pools.

Padding comes per side. What torch pads alike on both sides is left to its kernels; the rest is padded before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from graphpress.bridge.pytorch.context import TranslationContext

Pads = tuple[tuple[int, int], ...]
"""Padding before and after, per spatial axis."""


@dataclass(frozen=True)
class Window:
    """How a window slides.

    Args:
        strides, dilations: per spatial axis; None for ones, as the number of axes may not be known ahead.
        pads: given padding, None where it is worked out from the size.
        auto: ``SAME_UPPER`` or ``SAME_LOWER`` where padding keeps the size (divided by the stride), else empty.
    """

    strides: tuple[int, ...] | None
    dilations: tuple[int, ...] | None
    pads: Pads | None
    auto: str

    @staticmethod
    def of(ctx: TranslationContext) -> Window:
        """The window of a node."""
        auto = ctx.node.text("auto_pad", "NOTSET")
        pads = ctx.node.integers("pads")
        both = None if pads is None else tuple(zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True))
        if auto == "VALID":
            both = None
        return Window(
            ctx.node.integers("strides"), ctx.node.integers("dilations"), both, auto if auto.startswith("SAME") else ""
        )

    def stride(self, rank: int) -> tuple[int, ...]:
        """Strides of ``rank`` spatial axes."""
        return self.strides or (1,) * rank

    def dilation(self, rank: int) -> tuple[int, ...]:
        """Dilations of ``rank`` spatial axes."""
        return self.dilations or (1,) * rank

    def padding(self, size: Sequence[int], kernel: Sequence[int]) -> Pads:
        """Padding for an input of this spatial size and a kernel of this one."""
        if not self.auto:
            return self.pads or ((0, 0),) * len(kernel)
        rank = len(kernel)
        return tuple(
            _same(length, extent, stride, dilation, self.auto == "SAME_UPPER")
            for length, extent, stride, dilation in zip(
                size, kernel, self.stride(rank), self.dilation(rank), strict=True
            )
        )

    def to_whole_steps(self, size: Sequence[int], kernel: Sequence[int], pads: Pads, ceil: bool) -> Pads:
        """Padding such that whole steps just fit: a rounded-up last window is filled, a rest is cut off.

        The last window begins inside the input or the padding before it.
        """
        rank, result = len(kernel), []
        for axis, (before, after) in enumerate(pads):
            stride = self.stride(rank)[axis]
            extent = (kernel[axis] - 1) * self.dilation(rank)[axis] + 1
            room = size[axis] + before + after - extent
            steps = -(-room // stride) if ceil else room // stride
            if ceil and steps * stride >= size[axis] + before:
                steps -= 1
            result.append((before, steps * stride + extent - size[axis] - before))
        return tuple(result)


def _same(length: int, extent: int, stride: int, dilation: int, upper: bool) -> tuple[int, int]:
    total = max(0, (-(-length // stride) - 1) * stride + (extent - 1) * dilation + 1 - length)
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def even(pads: Pads) -> tuple[int, ...] | None:
    """Padding per axis where it is the same on both sides and not negative, else None."""
    return tuple(before for before, _ in pads) if all(before == after >= 0 for before, after in pads) else None


def pad(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """Pad the last axes with a number."""
    flat = [number for pair in reversed(pads) for number in pair]
    return functional.pad(x, flat, value=value) if any(flat) else x
