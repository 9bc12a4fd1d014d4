"""Windows that slide over space, as TensorRT's layers take them.

TensorRT's convolutions and pools work on two or three spatial axes, so data of one axis gets a second of size 1 behind
it. Padding is given explicitly wherever the size is known: ``SAME_*`` and rounding up have rules in ONNX that
TensorRT's padding modes follow in the plain cases only. A property that TensorRT does not take keeps its old value
without an error, so each one is read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphpress.backends.tensorrt.network.context import LoweringContext
from graphpress.backends.tensorrt.network.layers import Tensor

Pads = tuple[tuple[int, int], ...]
"""Padding before and after, per spatial axis."""
_SPATIAL = (2, 3)
"""How many spatial axes TensorRT's windows may have."""


@dataclass(frozen=True)
class Window:
    """How a window slides over data with these spatial axes.

    Args:
        kernel: its size.
        strides: steps from one place to the next.
        dilations: steps from one tap to the next.
        pads: padding, None where it is such that the size stays (divided by the stride) and the size is not known.
        upper: whether the larger half of such padding goes behind the data.
        ceil: whether a last window that does not fit whole counts.
        size: of the data, -1 where it is open.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads | None
    upper: bool
    ceil: bool
    size: tuple[int, ...]

    @staticmethod
    def of(ctx: LoweringContext, kernel: Sequence[int], size: Sequence[int]) -> Window:
        """The window of a node.

        Raises:
            ModelError: the data has no spatial axis or more than three, or another number of them than the kernel.
        """
        rank = len(kernel)
        if not 1 <= rank <= max(_SPATIAL) or len(size) != rank:
            raise ctx.refuse(f"has {len(size)} spatial axes; TensorRT's windows slide over one to three")
        ones = (1,) * rank
        strides, dilations = ctx.node.integers("strides") or ones, ctx.node.integers("dilations") or ones
        if len(strides) != rank or len(dilations) != rank or min(*strides, *dilations) < 1:
            raise ctx.refuse(f"strides {strides} and dilations {dilations} do not fit {rank} spatial axes")
        auto = ctx.node.text("auto_pad", "NOTSET")
        window = Window(
            tuple(kernel),
            strides,
            dilations,
            None if auto.startswith("SAME") else _pads(ctx, auto, rank),
            auto == "SAME_UPPER",
            ctx.node.flag("ceil_mode"),
            tuple(size),
        )
        return window if -1 in size or window.pads is not None else window.padded(window.same())

    @property
    def extent(self) -> tuple[int, ...]:
        """How far the window reaches, from its first tap to its last."""
        return tuple((taps - 1) * step + 1 for taps, step in zip(self.kernel, self.dilations, strict=True))

    @property
    def known(self) -> bool:
        """Whether the size of the data is known."""
        return -1 not in self.size

    def padded(self, pads: Pads) -> Window:
        """The same window over data that is padded so."""
        return replace(self, pads=pads)

    def same(self) -> Pads:
        """Padding that keeps the size, divided by the stride."""
        pads = []
        for length, extent, stride in zip(self.size, self.extent, self.strides, strict=True):
            pads.append(halves(max(0, (-(-length // stride) - 1) * stride + extent - length), self.upper))
        return tuple(pads)

    def whole(self) -> Pads:
        """Padding such that whole steps just fit: a rounded-up last window is filled, a rest is cut off (negative).

        The last window begins inside the data or the padding before it.
        """
        assert self.pads is not None
        assert self.known
        result = []
        for axis, (before, after) in enumerate(self.pads):
            stride, extent, size = self.strides[axis], self.extent[axis], self.size[axis]
            room = size + before + after - extent
            steps = -(-room // stride) if self.ceil else room // stride
            if self.ceil and steps * stride >= size + before:
                steps -= 1
            result.append((before, steps * stride + extent - size - before))
        return tuple(result)


def halves(total: int, upper: bool) -> tuple[int, int]:
    """Padding before and after; the larger half behind where ``upper``."""
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def _pads(ctx: LoweringContext, auto: str, rank: int) -> Pads:
    pads = None if auto == "VALID" else ctx.node.integers("pads")
    if pads is not None and len(pads) != 2 * rank:
        raise ctx.refuse(f"pads {pads} do not fit {rank} spatial axes")
    return ((0, 0),) * rank if pads is None else tuple(zip(pads[:rank], pads[rank:], strict=True))


def configure(ctx: LoweringContext, layer: Any, window: Window) -> None:
    """Strides, padding and (where the layer has them) dilations of a layer over data from ``widened``.

    Raises:
        ModelError: TensorRT does not take one of them.
    """
    extra = max(_SPATIAL[0] - len(window.kernel), 0)
    assign(ctx, layer, "stride_nd", (*window.strides, *(1,) * extra))
    if hasattr(layer, "dilation_nd"):
        assign(ctx, layer, "dilation_nd", (*window.dilations, *(1,) * extra))
    if window.pads is None:
        layer.padding_mode = getattr(ctx.trt.PaddingMode, "SAME_UPPER" if window.upper else "SAME_LOWER")
        return
    assign(ctx, layer, "pre_padding", (*(before for before, _ in window.pads), *(0,) * extra))
    assign(ctx, layer, "post_padding", (*(after for _, after in window.pads), *(0,) * extra))


def assign(ctx: LoweringContext, layer: Any, name: str, numbers: Sequence[int]) -> None:
    """Set a property of sizes, and see that it is set.

    Raises:
        ModelError: TensorRT does not take them.
    """
    setattr(layer, name, tuple(numbers))
    if tuple(getattr(layer, name)) != tuple(numbers):
        raise ctx.refuse(f"TensorRT does not take {tuple(numbers)} as {name.removesuffix('_nd').replace('_', ' ')}")


def widened(ctx: LoweringContext, tensor: Tensor) -> Tensor:
    """Data, or a kernel, with at least two spatial axes."""
    return ctx.unsqueeze(tensor, [3]) if len(tensor.shape) == 3 else tensor


def narrowed(ctx: LoweringContext, tensor: Tensor, rank: int) -> Tensor:
    """A result over as many axes as the node's data has, ``rank`` with batch and channels."""
    return ctx.squeeze(tensor, [3]) if rank == 3 and len(tensor.shape) == 4 else tensor


def taps(kernel: Sequence[int]) -> tuple[int, ...]:
    """The size of a kernel over at least two spatial axes."""
    return (*kernel, 1) if len(kernel) == 1 else tuple(kernel)
