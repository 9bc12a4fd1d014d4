"""Windows that slide over space, as TensorRT's layers take them.

TensorRT's convolutions and pools work on two or three spatial axes, so data of one axis gets a second of size 1 behind
it. Padding is given explicitly wherever the size is known: ``SAME_*`` and rounding up have rules in ONNX that
TensorRT's padding modes follow in the plain cases only. A property that TensorRT does not take keeps its old value
without an error, so each one is read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphpress.backends.tensorrt.network.context import LoweringContext
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.ops.semantics.window import Window, WindowAttributes

_SPATIAL = (2, 3)
"""How many spatial axes TensorRT's windows may have."""


def window_of(ctx: LoweringContext, kernel: Sequence[int], size: Sequence[int]) -> Window:
    """The window of a node over data of this spatial size.

    Raises:
        ModelError: the data has no spatial axis or more than three, or another number of them than the kernel.
    """
    rank = len(kernel)
    if not 1 <= rank <= max(_SPATIAL) or len(size) != rank:
        raise ctx.refuse(f"has {len(size)} spatial axes; TensorRT's windows slide over one to three")
    attributes = WindowAttributes.of(ctx.node)
    if attributes.pads is not None and not attributes.auto_pad and len(attributes.pads) != 2 * rank:
        raise ctx.refuse(f"pads {attributes.pads} do not fit {rank} spatial axes")
    strides, dilations = attributes.strides or (1,) * rank, attributes.dilations or (1,) * rank
    if len(strides) != rank or len(dilations) != rank or min(*strides, *dilations) < 1:
        raise ctx.refuse(f"strides {strides} and dilations {dilations} do not fit {rank} spatial axes")
    return attributes.over(kernel, size)


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
