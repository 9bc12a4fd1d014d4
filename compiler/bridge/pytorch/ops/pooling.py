"""Pooling: windows over space, whole space, and regions of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphpress.bridge.pytorch.context import Kernel, Translation, TranslationContext
from graphpress.bridge.pytorch.ops.windows import Pads, Window, even, pad

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
    window, size = Window.of(ctx), ctx.node.integers("kernel_shape") or ()
    ceil, column_major = ctx.node.flag("ceil_mode"), ctx.node.flag("storage_order")
    places = ctx.node.output_count > 1

    def kernel(x: Tensor) -> Any:
        rank = len(size)
        wide = x if x.is_floating_point() else x.float()
        pads, stride, dilation = window.padding(x.shape[2:], size), window.stride(rank), window.dilation(rank)
        padding = None if ceil else even(pads)
        if padding is None or any(2 * one > extent for one, extent in zip(padding, size, strict=True)):
            pads = window.to_whole_steps(x.shape[2:], size, pads, ceil)
            wide, padding = pad(wide, pads, float("-inf")), (0,) * rank
        else:
            pads = ((0, 0),) * rank
        best = _MAX[rank - 1](wide, size, stride, padding, dilation, return_indices=places)
        if isinstance(best, Tensor):
            return best.to(x.dtype)
        return best[0].to(x.dtype), _positions(best[1], x, wide.shape[2:], pads, column_major)

    return kernel


def _positions(found: Tensor, x: Tensor, padded: Sequence[int], pads: Pads, column_major: bool) -> Tensor:
    """Positions in the whole tensor from positions in the padded space of one channel."""
    space = x.shape[2:]
    coordinates = []
    for size, (before, _) in zip(reversed(padded), reversed(pads), strict=True):
        coordinates.append(found % size - before)
        found = found // size
    result, weight = torch.zeros_like(found), 1
    order = list(zip(coordinates, reversed(space), strict=True))
    for coordinate, size in order[::-1] if column_major else order:
        result, weight = result + coordinate * weight, weight * size
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *(1,) * len(space))
    return result + planes * math.prod(space)


def _max_unpool(ctx: TranslationContext) -> Kernel:
    """Values go back where they were; a larger output shape adds zeros at the ends."""
    window, size = Window.of(ctx), ctx.node.integers("kernel_shape") or ()
    read = ctx.reader(2)

    def kernel(x: Tensor, places: Tensor, shape: Tensor | None = None) -> Tensor:
        rank = len(size)
        pads = window.pads or ((0, 0),) * rank
        space = [
            (length - 1) * step - before - after + extent
            for length, step, (before, after), extent in zip(x.shape[2:], window.stride(rank), pads, size, strict=True)
        ]
        whole = x.new_zeros(math.prod((*x.shape[:2], *space))).scatter(0, places.flatten(), x.flatten())
        result, wanted = whole.reshape(*x.shape[:2], *space), read(shape)
        if wanted is None:
            return result
        return pad(result, tuple((0, want - have) for want, have in zip(wanted[2:], space, strict=True)))

    return kernel


# -- means and norms ------------------------------------------------------------------------------------------


def _average_pool(ctx: TranslationContext) -> Kernel:
    """Padding counts only where ``count_include_pad`` says so; what a rounded-up last window adds never does."""
    window, size = Window.of(ctx), ctx.node.integers("kernel_shape") or ()
    ceil, with_padding = ctx.node.flag("ceil_mode"), ctx.node.flag("count_include_pad")

    def kernel(x: Tensor) -> Tensor:
        rank = len(size)
        pads = window.padding(x.shape[2:], size)
        padding = None if ceil or max(window.dilation(rank)) > 1 else even(pads)
        if padding is not None and all(2 * one <= extent for one, extent in zip(padding, size, strict=True)):
            return _MEAN[rank - 1](x, size, window.stride(rank), padding, False, with_padding)
        whole = window.to_whole_steps(x.shape[2:], size, pads, ceil)
        counted = x.new_ones(1, 1, *x.shape[2:])
        if with_padding:
            counted, rest = (
                pad(counted, pads, 1.0),
                tuple(
                    (all_before - before, all_after - after)
                    for (all_before, all_after), (before, after) in zip(whole, pads, strict=True)
                ),
            )
        else:
            rest = whole
        return _sums(pad(x, whole), size, window) / _sums(pad(counted, rest), size, window)

    return kernel


def _sums(x: Tensor, size: Sequence[int], window: Window) -> Tensor:
    """The sum over each window; what is left of the last axis after whole steps is not looked at."""
    rank = len(size)
    flat = x.reshape(-1, 1, *x.shape[2:])
    ones = x.new_ones(1, 1, *size)
    sums = _CONVOLUTIONS[rank - 1](flat, ones, None, window.stride(rank), 0, window.dilation(rank))
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


def _lp_pool(ctx: TranslationContext) -> Kernel:
    window, size, order = Window.of(ctx), ctx.node.integers("kernel_shape") or (), ctx.node.integer("p", 2)
    ceil = ctx.node.flag("ceil_mode")

    def kernel(x: Tensor) -> Tensor:
        pads = window.to_whole_steps(x.shape[2:], size, window.padding(x.shape[2:], size), ceil)
        return _sums(pad(x.abs() ** order, pads), size, window) ** (1 / order)

    return kernel


def _global_lp_pool(ctx: TranslationContext) -> Kernel:
    order = ctx.node.integer("p", 2)
    return lambda x: torch.linalg.vector_norm(x, order, tuple(range(2, x.dim())), keepdim=True)
