"""Operators that write into a copy of a tensor. Refused: scatters that combine."""

from __future__ import annotations

from graphpress.backends.tensorrt.network.context import LoweringContext, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.select import index_tuples, positions


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "Scatter": _scatter_elements,
        "ScatterElements": _scatter_elements,
        "ScatterND": _scatter_nd,
        "TensorScatter": _tensor_scatter,
    }


def _plain_scatter(ctx: LoweringContext) -> None:
    if (reduction := ctx.node.text("reduction", "none")) != "none":
        raise ctx.refuse(f"TensorRT's scatter overwrites; it does not combine ({reduction})")


def _scatter_elements(ctx: LoweringContext) -> Tensor:
    _plain_scatter(ctx)
    tensor = ctx.tensor(0)
    axis = ctx.node.axis(0, len(tensor.shape))
    places = positions(ctx, 1, ctx.sizes(tensor)[axis])
    layer = ctx.add("scatter", tensor, places, ctx.tensor(2), ctx.trt.ScatterMode.ELEMENT)
    layer.axis = axis
    return layer.get_output(0)


def _scatter_nd(ctx: LoweringContext) -> Tensor:
    _plain_scatter(ctx)
    return ctx.out("scatter", ctx.tensor(0), index_tuples(ctx, 0), ctx.tensor(2), ctx.trt.ScatterMode.ND)


def _tensor_scatter(ctx: LoweringContext) -> Tensor:
    """Writes consecutive positions of one axis, from a start that each sample has of its own."""
    cache, update = ctx.tensor(0), ctx.tensor(1)
    rank = len(cache.shape)
    axis = ctx.node.axis(-2, rank)
    sizes = ctx.sizes(update)
    run = ctx.unsqueeze(ctx.iota(sizes[axis], ctx.index_type), [index for index in range(rank) if index != axis])
    if ctx.node.has(2):
        starts = ctx.unsqueeze(ctx.as_index(ctx.tensor(2)), range(1, rank))
        run = ctx.elementwise("SUM", starts, run)
    if ctx.node.text("mode", "linear") == "circular":
        length = ctx.as_operand(ctx.sizes(cache)[axis], run)
        turns = ctx.elementwise("FLOOR_DIV", run, length)
        run = ctx.elementwise("SUB", run, ctx.elementwise("PROD", turns, length))
    layer = ctx.add("scatter", cache, ctx.expand(run, sizes), update, ctx.trt.ScatterMode.ELEMENT)
    layer.axis = axis
    return layer.get_output(0)
