"""Pools: windows over space, and whole space.

TensorRT rounds up differently from ONNX, whose last window begins inside the data or the padding before it, and has no
dilations. So padding is made such that whole steps just fit, wherever the size is known:

    MaxPool      padding is -∞ and may be as long as needed
    AveragePool  a rounded-up rest counts in no mean: TensorRT's own rounding where it gives the same places, else the
                 sums of windows divided by how many elements each holds
    LpPool       (n · mean |x|ᵖ) ^ (1/p), padding counted

A dilated window is written out: one slice per tap, and the largest or the sum of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from math import prod

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.types import onnx_type
from graphpress.backends.tensorrt.network.windows import (
    configure,
    narrowed,
    taps,
    widened,
    window_of,
)
from graphpress.ops.semantics.window import Pads, Window

_INTEGERS = ("INT8",)


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "AveragePool": _average_pool,
        "GlobalAveragePool": lambda ctx: _global(ctx, "AVG"),
        "GlobalLpPool": _global_lp_pool,
        "GlobalMaxPool": lambda ctx: _global(ctx, "MAX"),
        "LpPool": _lp_pool,
        "MaxPool": _max_pool,
        "MaxUnpool": _max_unpool,
    }


def _window(ctx: LoweringContext, x: Tensor) -> Window:
    return window_of(ctx, ctx.node.integers("kernel_shape") or (), tuple(x.shape)[2:])


def _pool(
    ctx: LoweringContext, x: Tensor, kind: str, window: Window, with_padding: bool = False, up: bool = False
) -> Tensor:
    """A pooling layer over padded data."""
    layer = ctx.add("pooling_nd", widened(ctx, x), getattr(ctx.trt.PoolingType, kind), taps(window.kernel))
    configure(ctx, layer, window)
    if up:
        layer.padding_mode = ctx.trt.PaddingMode.EXPLICIT_ROUND_UP
    layer.average_count_excludes_padding = not with_padding
    return narrowed(ctx, layer.get_output(0), len(x.shape))


def _rounds_alike(window: Window) -> bool:
    """Whether TensorRT's rounding up has as many places as ONNX's."""
    if not window.ceil or window.pads is None:
        return True
    ends = zip(window.pads, window.extent, window.strides, strict=True)
    if all(after <= extent - stride for (_, after), extent, stride in ends):
        return True
    if not window.known:
        return False
    down = replace(window, ceil=False)
    for axis, ((_, after), (_, plain)) in enumerate(zip(window.whole(), down.whole(), strict=True)):
        rest = window.pads[axis][1] - plain
        if (after > plain) != (rest > 0):
            return False
    return True


# -- the largest ----------------------------------------------------------------------------------------------


def _max_pool(ctx: LoweringContext) -> Tensor:
    x = ctx.tensor(0)
    if x.dtype.name not in _INTEGERS:
        ctx.require_floats(x)
    if ctx.node.uses_output(1):
        raise ctx.refuse("TensorRT's pools do not give the places of the largest (second output)")
    window = _window(ctx, x)
    if max(window.dilations) > 1:
        return _tapped(ctx, x, window, "MAX")
    if window.known and window.ceil:
        return _pool(ctx, x, "MAX", _within(window))
    if not _rounds_alike(window):
        raise ctx.refuse(_OPEN, "give the input fixed dimensions, or ceil_mode 0")
    return _pool(ctx, x, "MAX", window, up=window.ceil)


_OPEN = "open dimensions, over which TensorRT rounds or pads otherwise"


def _within(window: Window) -> Window:
    """Whole steps, with nothing to cut off: a rest at the end is left where it is."""
    return window.padded(tuple((before, max(after, 0)) for before, after in window.whole()))


def _max_unpool(ctx: LoweringContext) -> Tensor:
    """Values go back where they were in the flat output, whose size must be known."""
    x, places = ctx.tensor(0), ctx.tensor(1)
    ctx.require_floats(x)
    shape = ctx.static_shape(0, "the data")
    kernel = ctx.node.integers("kernel_shape") or ()
    window = window_of(ctx, kernel, shape[2:])
    pads = window.pads or ((0, 0),) * len(kernel)
    space = [
        (length - 1) * step - before - after + extent
        for length, step, (before, after), extent in zip(shape[2:], window.strides, pads, kernel, strict=True)
    ]
    whole = [*shape[:2], *space]
    zeros = ctx.constant_tensor(np.zeros(prod(whole), onnx_type(x.dtype).numpy()))
    flat = [ctx.reshape(operand, [-1]) for operand in (places, x)]
    layer = ctx.add("scatter", zeros, *flat, ctx.trt.ScatterMode.ELEMENT)
    layer.axis = 0
    result = ctx.reshape(layer.get_output(0), whole)
    wanted = [int(size) for size in ctx.known(2, "the output shape")] if ctx.node.has(2) else whole
    return result if wanted == whole else _zeros_behind(ctx, result, wanted)


def _zeros_behind(ctx: LoweringContext, tensor: Tensor, sizes: Sequence[int]) -> Tensor:
    layer = ctx.slice(tensor, [0] * len(sizes), list(sizes), [1] * len(sizes))
    layer.mode = ctx.trt.SampleMode.FILL
    layer.set_input(4, ctx.like(0, tensor, 0))
    return layer.get_output(0)


# -- means and norms ------------------------------------------------------------------------------------------


def _average_pool(ctx: LoweringContext) -> Tensor:
    x = ctx.tensor(0)
    ctx.require_floats(x)
    window, with_padding = _window(ctx, x), ctx.node.flag("count_include_pad")
    plain = max(window.dilations) == 1
    longest = () if window.pads is None else zip(window.pads, window.kernel, strict=True)
    if window.pads is None and with_padding:
        raise ctx.refuse("a mean that counts padding which follows from an open size", "give explicit pads")
    short = with_padding or all(max(pair) < size for pair, size in longest)
    if plain and short and _rounds_alike(window):
        return _pool(ctx, x, "AVERAGE", window, with_padding, window.ceil)
    if not window.known:
        raise ctx.refuse(_OPEN if plain else "dilations over open dimensions", "give the input fixed dimensions")
    sums = _tapped(ctx, x, window, "SUM")
    return ctx.elementwise("DIV", sums, _constant(ctx, _counts(window, with_padding), x))


def _constant(ctx: LoweringContext, array: np.ndarray, like: Tensor) -> Tensor:
    return ctx.constant_tensor(array.astype(onnx_type(like.dtype).numpy()))


def _counts(window: Window, with_padding: bool) -> np.ndarray:
    """How many elements each window holds: [1, 1, places...]; what a rounded-up rest adds is none."""
    total = np.ones((), np.float64)
    for axis, size in enumerate(window.size):
        before, after = window.padding[axis]
        low, high = (-before, size + after) if with_padding else (0, size)
        places = np.arange(_places(window)[axis])[:, None] * window.strides[axis] - before
        reached = places + np.arange(window.kernel[axis]) * window.dilations[axis]
        total = total[..., None] * ((reached >= low) & (reached < high)).sum(1)
    return np.maximum(total, 1)[None, None]


def _places(window: Window) -> list[int]:
    """How many places a window has along each axis."""
    axes = zip(window.size, window.whole(), window.extent, window.strides, strict=True)
    return [(size + before + after - extent) // stride + 1 for size, (before, after), extent, stride in axes]


def _lp_pool(ctx: LoweringContext) -> Tensor:
    x, order = ctx.tensor(0), ctx.node.integer("p", 2)
    ctx.require_floats(x)
    window, powers = _window(ctx, x), _power(ctx, x, order)
    if max(window.dilations) > 1:
        return _root(ctx, _tapped(ctx, powers, window, "SUM"), order)
    if (window.ceil or window.pads is None) and not window.known:
        raise ctx.refuse(_OPEN, "give the input fixed dimensions, or ceil_mode 0 and explicit pads")
    means = _pool(ctx, powers, "AVERAGE", _within(window) if window.ceil else window, with_padding=True)
    return _root(ctx, ctx.elementwise("PROD", means, ctx.like(prod(window.kernel), means)), order)


def _power(ctx: LoweringContext, x: Tensor, order: int) -> Tensor:
    if order == 2:
        return ctx.elementwise("PROD", x, x)
    size = ctx.unary("ABS", x)
    return size if order == 1 else ctx.elementwise("POW", size, ctx.like(order, size))


def _root(ctx: LoweringContext, x: Tensor, order: int) -> Tensor:
    if order == 2:
        return ctx.unary("SQRT", x)
    return x if order == 1 else ctx.elementwise("POW", x, ctx.like(1 / order, x))


# -- one slice per tap ----------------------------------------------------------------------------------------


def _tapped(ctx: LoweringContext, x: Tensor, window: Window, operation: str) -> Tensor:
    """The largest or the sum over each window, from one strided slice per tap of the padded data."""
    if not window.known:
        raise ctx.refuse("dilations over open dimensions", "give the input fixed dimensions")
    data = _padded(ctx, x, window.whole(), -np.inf if operation == "MAX" else 0.0)
    sizes = [*ctx.sizes(x)[:2], *_places(window)]
    parts = []
    for tap in itertools.product(*(range(size) for size in window.kernel)):
        start = [0, 0, *(index * step for index, step in zip(tap, window.dilations, strict=True))]
        parts.append(ctx.slice(data, start, sizes, [1, 1, *window.strides]).get_output(0))
    return reduce(lambda left, right: ctx.elementwise(operation, left, right), parts)


def _padded(ctx: LoweringContext, x: Tensor, pads: Pads, fill: float) -> Tensor:
    """Data with a number around it; negative padding cuts off."""
    if not any(itertools.chain(*pads)):
        return x
    sizes = ctx.sizes(x)
    space = [ctx.calculate("SUM", size, sum(pair)) for size, pair in zip(sizes[2:], pads, strict=True)]
    layer = ctx.slice(x, [0, 0, *(-before for before, _ in pads)], [*sizes[:2], *space], [1] * len(sizes))
    layer.mode = ctx.trt.SampleMode.FILL
    layer.set_input(4, ctx.like(fill, x, 0))
    return layer.get_output(0)


# -- whole space ----------------------------------------------------------------------------------------------


def _global(ctx: LoweringContext, operation: str) -> Tensor:
    x = ctx.tensor(0)
    ctx.require_floats(x)
    return ctx.reduce(operation, x, range(2, len(x.shape)))


def _global_lp_pool(ctx: LoweringContext) -> Tensor:
    x, order = ctx.tensor(0), ctx.node.integer("p", 2)
    ctx.require_floats(x)
    return _root(ctx, ctx.reduce("SUM", _power(ctx, x, order), range(2, len(x.shape))), order)
