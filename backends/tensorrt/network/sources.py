"""Operators that make tensors from nothing, or from the shape of one.

What is known stays an array until a layer reads it. Random operators have no rule: an engine could not repeat what the
model draws.
"""

from __future__ import annotations

import math

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Result, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.backends.tensorrt.network.layout import diagonal_distance
from graphpress.backends.tensorrt.network.types import is_float
from graphpress.ir import constant


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "Constant": _constant,
        "ConstantOfShape": _constant_of_shape,
        "EyeLike": _eye_like,
        "Range": _range,
        "Shape": _shape,
        "Size": _size,
    }


def _constant(ctx: LoweringContext) -> np.ndarray:
    array = constant(ctx.node.outputs[0])
    if array is None or array.dtype == object:
        raise ctx.refuse("it holds strings or is sparse, for which TensorRT has no tensors", "take it out of the graph")
    return array


def _shape(ctx: LoweringContext) -> Result:
    dims = ctx.shape(0)
    positions = range(len(dims))[slice(ctx.node.integer("start", 0), _end(ctx))]
    if all(dims[axis] >= 0 for axis in positions):
        return np.array([dims[axis] for axis in positions], np.int64)
    whole = ctx.shape_tensor(ctx.tensor(0))
    return whole if len(positions) == len(dims) else ctx.out("slice", whole, [positions[0]], [len(positions)], [1])


def _end(ctx: LoweringContext) -> int | None:
    return ctx.node.integer("end", 0) if "end" in ctx.node.attributes else None


def _size(ctx: LoweringContext) -> Result:
    dims = ctx.shape(0)
    if -1 not in dims:
        return np.array(math.prod(dims), np.int64)
    return ctx.as_scalar(ctx.product(ctx.sizes(ctx.tensor(0))))


def _constant_of_shape(ctx: LoweringContext) -> Tensor:
    attribute = ctx.node.attributes.get("value")
    value = np.zeros(1, np.float32) if attribute is None else attribute.as_tensor().numpy()
    sizes: list[Size] = ctx.vector(0)
    return ctx.expand(ctx.constant_tensor(value.reshape([1] * len(sizes))), sizes)


def _eye_like(ctx: LoweringContext) -> Tensor:
    tensor = ctx.tensor(0)
    dtype = ctx.node.element_type("dtype")
    distance = diagonal_distance(ctx, tensor)
    on_diagonal = ctx.elementwise("EQUAL", distance, ctx.like(ctx.node.integer("k", 0), distance))
    return ctx.out("cast", on_diagonal, tensor.dtype if dtype is None else ctx.tensorrt_type(dtype))


def _range(ctx: LoweringContext) -> Tensor:
    """``max(0, ⌈(limit − start) / step⌉)`` elements."""
    start, limit, step = (ctx.reshape(ctx.tensor(index), [1]) for index in range(3))
    span = ctx.elementwise("SUB", limit, start)
    if is_float(span.dtype):
        count = ctx.as_index(ctx.unary("CEIL", ctx.elementwise("DIV", span, step)))
    else:
        missing = ctx.elementwise("FLOOR_DIV", ctx.unary("NEG", span), step)
        count = ctx.as_index(ctx.unary("NEG", missing))
    size = ctx.elementwise("MAX", count, ctx.like(0, count))
    return ctx.linspace(size, ctx.as_scalar(start), step)
