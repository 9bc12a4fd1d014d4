"""Softmax and what is made of it, along one axis or (before operator set 13) along all from ``axis`` on as one.

    Softmax      e^x / Σ e^x
    LogSoftmax   x - max x - log Σ e^(x - max x), which stays finite where the logarithm of a softmax would not
    Hardmax      one at the first of the largest, zero elsewhere

Integers are refused.
"""

from __future__ import annotations

from collections.abc import Callable

from graphpress.backends.tensorrt.network.context import LoweringContext, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.ir import normalize_axis
from graphpress.ops.semantics.axes import softmax_axis


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "Hardmax": lambda ctx: _along(ctx, _hardmax),
        "LogSoftmax": lambda ctx: _along(ctx, _log_softmax),
        "Softmax": lambda ctx: _along(ctx, softmax),
    }


def _along(ctx: LoweringContext, function: Callable[[LoweringContext, Tensor, int], Tensor]) -> Tensor:
    x = ctx.tensor(0)
    ctx.require_floats(x)
    rank = len(x.shape)
    given, alone = softmax_axis(ctx.node)
    axis = rank if given == rank and not alone else normalize_axis(given, rank)
    if rank >= 2 and (alone or axis == rank - 1):
        return function(ctx, x, axis)
    sizes = ctx.sizes(x)
    cut = 0 if alone else axis
    flat = ctx.reshape(x, [ctx.product(sizes[:cut]), ctx.product(sizes[cut:])])
    return ctx.reshape(function(ctx, flat, 1), sizes)


def softmax(ctx: LoweringContext, x: Tensor, axis: int) -> Tensor:
    """A softmax layer along one axis."""
    layer = ctx.add("softmax", x)
    layer.axes = 1 << axis
    return layer.get_output(0)


def _log_softmax(ctx: LoweringContext, x: Tensor, axis: int) -> Tensor:
    centered = ctx.elementwise("SUB", x, ctx.reduce("MAX", x, [axis]))
    total = ctx.reduce("SUM", ctx.unary("EXP", centered), [axis])
    return ctx.elementwise("SUB", centered, ctx.unary("LOG", total))


def _hardmax(ctx: LoweringContext, x: Tensor, axis: int) -> Tensor:
    largest = ctx.add("topk", x, ctx.trt.TopKOperation.MAX, 1, 1 << axis).get_output(1)
    others = [index for index in range(len(x.shape)) if index != axis]
    positions = ctx.unsqueeze(ctx.iota(ctx.sizes(x)[axis], largest.dtype), others)
    return ctx.cast(ctx.elementwise("EQUAL", positions, largest), x.dtype)
