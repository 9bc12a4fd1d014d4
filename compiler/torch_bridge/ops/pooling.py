"""Pooling: windows over space, whole space, and regions of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphpress.ops.semantics.window import Pads, Window, WindowAttributes
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext
from graphpress.torch_bridge.ops.windows import even, pad

_MAX: tuple[Callable[..., Any], ...] = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_MEAN = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "AveragePool": _average_pool,
        "GlobalAveragePool": lambda ctx: lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True),
        "GlobalLpPool": _global_lp_pool,
        "GlobalMaxPool": lambda ctx: lambda x: x.amax(tuple(range(2, x.dim())), keepdim=True),
        "LpPool": _lp_pool,
        "MaxPool": _max_pool,
        "MaxUnpool": _max_unpool,
    }


# -- the largest ----------------------------------------------------------------------------------------------


def _max_pool(ctx: TranslationContext) -> Kernel:
    attributes, size = WindowAttributes.of(ctx.node), ctx.node.integers("kernel_shape") or ()
    column_major, places = ctx.node.flag("storage_order"), ctx.node.output_count > 1

    def kernel(x: Tensor) -> Any:
        window, wide = attributes.over(size, x.shape[2:]), x if x.is_floating_point() else x.float()
        padding = None if window.ceil else even(window.padding)
        if padding is None or any(2 * before > taps for before, taps in zip(padding, size, strict=True)):
            pads = window.whole()
            wide, padding = pad(wide, pads, float("-inf")), (0,) * len(size)
        else:
            pads = ((0, 0),) * len(size)
        function = _MAX[len(size) - 1]
        best = function(wide, size, window.strides, padding, window.dilations, return_indices=places)
        if isinstance(best, Tensor):
            return best.to(x.dtype)
        return best[0].to(x.dtype), _positions(best[1], x, wide.shape[2:], pads, column_major)

    return kernel


def _positions(flat: Tensor, x: Tensor, padded: Sequence[int], pads: Pads, column_major: bool) -> Tensor:
    """Positions in the whole tensor from positions in the padded space of one channel."""
    space = x.shape[2:]
    coordinates = []
    for size, (before, _) in zip(reversed(padded), reversed(pads), strict=True):
        coordinates.append(flat % size - before)
        flat = flat // size
    result, weight = torch.zeros_like(flat), 1
    order = list(zip(coordinates, reversed(space), strict=True))
    for coordinate, size in order[::-1] if column_major else order:
        result, weight = result + coordinate * weight, weight * size
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *(1,) * len(space))
    return result + planes * math.prod(space)


def _max_unpool(ctx: TranslationContext) -> Kernel:
    """Values go back where they were; a larger output shape adds zeros at the ends."""
    attributes, size = WindowAttributes.of(ctx.node), ctx.node.integers("kernel_shape") or ()
    read = ctx.reader(2)

    def kernel(x: Tensor, places: Tensor, shape: Tensor | None = None) -> Tensor:
        window = attributes.over(size, x.shape[2:])
        axes = zip(x.shape[2:], window.strides, window.padding, size, strict=True)
        space = [(length - 1) * step - before - after + taps for length, step, (before, after), taps in axes]
        whole = x.new_zeros(math.prod((*x.shape[:2], *space))).scatter(0, places.flatten(), x.flatten())
        result, wanted = whole.reshape(*x.shape[:2], *space), read(shape)
        if wanted is None:
            return result
        return pad(result, tuple((0, want - have) for want, have in zip(wanted[2:], space, strict=True)))

    return kernel


# -- means and norms ------------------------------------------------------------------------------------------


def _average_pool(ctx: TranslationContext) -> Kernel:
    """Padding counts only where ``count_include_pad`` is set; what a rounded-up last window adds never does."""
    attributes, size = WindowAttributes.of(ctx.node), ctx.node.integers("kernel_shape") or ()
    with_padding = ctx.node.flag("count_include_pad")

    def kernel(x: Tensor) -> Tensor:
        window = attributes.over(size, x.shape[2:])
        padding = None if window.ceil or max(window.dilations) > 1 else even(window.padding)
        if padding is not None and all(2 * before <= taps for before, taps in zip(padding, size, strict=True)):
            return _MEAN[len(size) - 1](x, size, window.strides, padding, False, with_padding)
        return _sums(pad(x, window.whole()), window) / _sums(_counted(x, window, with_padding), window)

    return kernel


def _counted(x: Tensor, window: Window, with_padding: bool) -> Tensor:
    """One for each element that counts, zero for what only fills the last windows."""
    ones, whole = x.new_ones(1, 1, *x.shape[2:]), window.whole()
    if not with_padding:
        return pad(ones, whole)
    pairs = zip(whole, window.padding, strict=True)
    rest = tuple((all_before - before, all_after - after) for (all_before, all_after), (before, after) in pairs)
    return pad(pad(ones, window.padding, 1.0), rest)


def _sums(x: Tensor, window: Window) -> Tensor:
    """The sum over each window; what is left of the last axis after whole steps is not looked at."""
    rank = len(window.kernel)
    flat = x.reshape(-1, 1, *x.shape[2:])
    ones = x.new_ones(1, 1, *window.kernel)
    sums = _CONVOLUTIONS[rank - 1](flat, ones, None, window.strides, 0, window.dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


def _lp_pool(ctx: TranslationContext) -> Kernel:
    attributes, order = WindowAttributes.of(ctx.node), ctx.node.integer("p", 2)
    size = ctx.node.integers("kernel_shape") or ()

    def kernel(x: Tensor) -> Tensor:
        window = attributes.over(size, x.shape[2:])
        return _sums(pad(x.abs() ** order, window.whole()), window) ** (1 / order)

    return kernel


def _global_lp_pool(ctx: TranslationContext) -> Kernel:
    order = ctx.node.integer("p", 2)
    return lambda x: torch.linalg.vector_norm(x, order, tuple(range(2, x.dim())), keepdim=True)
