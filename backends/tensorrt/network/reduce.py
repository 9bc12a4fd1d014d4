"""Reductions over axes, the positions of extremes, running sums and the largest k.

    ReduceL1          Σ|x|
    ReduceL2          √Σx²
    ReduceLogSum      ln Σx
    ReduceLogSumExp   m + ln Σ exp(x − m),  m the maximum, or 0 where that is infinite
    ReduceSumSquare   Σx²
    ArgMax, ArgMin    the position that a TopK of 1 gives; for the last of equal elements, of the reversed axis

Refused: axes that are known at run time only, running products.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Result, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.backends.tensorrt.network.types import is_bool
from graphpress.ir import normalize_axis
from graphpress.ops.semantics.axes import reduced_axes

_PLAIN = {"ReduceMax": "MAX", "ReduceMean": "AVG", "ReduceMin": "MIN", "ReduceProd": "PROD", "ReduceSum": "SUM"}
_MAX_K = 3840
"""What TensorRT's TopK takes."""


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        **{name: _reduction(operation) for name, operation in _PLAIN.items()},
        "ReduceL1": _reduction("SUM", before=lambda ctx, tensor: ctx.unary("ABS", tensor)),
        "ReduceL2": _reduction("SUM", before=_square, after=lambda ctx, tensor: ctx.unary("SQRT", tensor)),
        "ReduceLogSum": _reduction("SUM", after=lambda ctx, tensor: ctx.unary("LOG", tensor)),
        "ReduceLogSumExp": _log_sum_exp,
        "ReduceSumSquare": _reduction("SUM", before=_square),
        "ArgMax": _arg("MAX"),
        "ArgMin": _arg("MIN"),
        "CumSum": _cumulative,
        "TopK": _top_k,
    }


Step = Callable[[LoweringContext, Tensor], Tensor]


def _same(ctx: LoweringContext, tensor: Tensor) -> Tensor:
    return tensor


def _square(ctx: LoweringContext, tensor: Tensor) -> Tensor:
    return ctx.elementwise("PROD", tensor, tensor)


def _reduction(operation: str, *, before: Step = _same, after: Step = _same) -> Rule:
    def rule(ctx: LoweringContext) -> Tensor:
        tensor, axes = ctx.tensor(0), _axes(ctx)
        if axes is None:
            return ctx.out("identity", tensor)
        return after(ctx, _reduce(ctx, operation, before(ctx, tensor), axes))

    return rule


def _reduce(ctx: LoweringContext, operation: str, tensor: Tensor, axes: list[int]) -> Tensor:
    keep = ctx.node.flag("keepdims", True)
    if not is_bool(tensor.dtype):
        return ctx.reduce(operation, tensor, axes, keep)
    count = ctx.reduce(operation, ctx.cast(tensor, ctx.trt.DataType.INT32), axes, keep)
    return ctx.elementwise("GREATER", count, ctx.like(0, count))


def _axes(ctx: LoweringContext) -> list[int] | None:
    """The axes from the front, all where none are given; None where that means to leave the tensor as it is."""
    given, rank = ctx.known_integers("axes", 1), ctx.rank(0)
    if not given and ctx.node.flag("noop_with_empty_axes"):
        return None
    return reduced_axes(ctx.node, given, rank)


def _log_sum_exp(ctx: LoweringContext) -> Tensor:
    tensor, axes = ctx.tensor(0), _axes(ctx)
    if axes is None or not axes:
        return ctx.out("identity", tensor)
    largest = ctx.reduce("MAX", tensor, axes)
    largest = ctx.select(ctx.unary("ISINF", largest), ctx.like(0, largest), largest)
    powers = ctx.unary("EXP", ctx.elementwise("SUB", tensor, largest))
    total = ctx.elementwise("SUM", ctx.unary("LOG", ctx.reduce("SUM", powers, axes)), largest)
    return total if ctx.node.integer("keepdims", 1) else ctx.squeeze(total, axes)


# -- positions ------------------------------------------------------------------------------------------------


def _largest(
    ctx: LoweringContext, tensor: Tensor, operation: str, count: int | Tensor, axis: int
) -> tuple[Tensor, Tensor]:
    """Values and positions; TensorRT wants at least two axes."""
    vector = len(tensor.shape) == 1
    if vector:
        tensor, axis = ctx.unsqueeze(tensor, [0]), 1
    known = count if isinstance(count, int) else 1
    if known > _MAX_K:
        raise ctx.refuse(f"it asks for {known} elements, TensorRT gives {_MAX_K} at most", "ask for fewer")
    layer = ctx.add("topk", tensor, getattr(ctx.trt.TopKOperation, operation), known, 1 << axis)
    if not isinstance(count, int):
        layer.set_input(1, count)
    results = layer.get_output(0), ctx.as_index(layer.get_output(1))
    return (ctx.squeeze(results[0], [0]), ctx.squeeze(results[1], [0])) if vector else results


def _arg(operation: str) -> Rule:
    def rule(ctx: LoweringContext) -> Tensor:
        tensor = ctx.tensor(0)
        axis = ctx.node.axis(0, len(tensor.shape))
        last = ctx.node.flag("select_last_index")
        _, positions = _largest(ctx, _reversed(ctx, tensor, axis) if last else tensor, operation, 1, axis)
        if last:
            highest = ctx.calculate("SUB", ctx.sizes(tensor)[axis], 1)
            positions = ctx.elementwise("SUB", ctx.as_operand(highest, positions), positions)
        return positions if ctx.node.integer("keepdims", 1) else ctx.squeeze(positions, [axis])

    return rule


def _reversed(ctx: LoweringContext, tensor: Tensor, axis: int) -> Tensor:
    """The tensor with one axis from back to front."""
    sizes = ctx.sizes(tensor)
    starts: list[Size] = [0] * len(sizes)
    starts[axis] = ctx.calculate("SUB", sizes[axis], 1)
    return ctx.slice(tensor, starts, sizes, [-1 if index == axis else 1 for index in range(len(sizes))]).get_output(0)


def _top_k(ctx: LoweringContext) -> list[Result]:
    axis = ctx.node.axis(-1, ctx.rank(0))
    operation = "MAX" if ctx.node.integer("largest", 1) else "MIN"
    count: int | Tensor = ctx.node.integer("k", 0)
    if "k" not in ctx.node.attributes:
        known = ctx.node.constant(1)
        count = int(known.reshape(-1)[0]) if known is not None else ctx.as_scalar(ctx.tensor(1))
    return list(_largest(ctx, ctx.tensor(0), operation, count, axis))


def _cumulative(ctx: LoweringContext) -> Tensor:
    axis = normalize_axis(int(ctx.number_of(1, "the axis", 0)), ctx.rank(0))
    where = ctx.constant_tensor(np.array(axis, np.int32))
    operation = ctx.trt.CumulativeOperation.SUM if hasattr(ctx.trt, "CumulativeOperation") else None
    exclusive, reverse = ctx.node.flag("exclusive"), ctx.node.flag("reverse")
    return ctx.out("cumulative", ctx.tensor(0), where, operation, exclusive, reverse)
