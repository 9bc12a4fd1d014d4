"""Operators whose sizes depend on what the data holds: Compress, NonMaxSuppression, NonZero."""

from __future__ import annotations

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Rule
from graphpress.backends.tensorrt.network.layers import Tensor


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {"Compress": _compress, "NonMaxSuppression": _non_max_suppression, "NonZero": _non_zero}


def _compress(ctx: LoweringContext) -> Tensor:
    """Gathers where the condition holds; without an axis, from the flat tensor."""
    tensor, axis = ctx.tensor(0), 0
    if "axis" in ctx.node.attributes:
        axis = ctx.node.axis(0, len(tensor.shape))
    else:
        tensor = ctx.reshape(tensor, [-1])
    condition = ctx.node.constant(1)
    if condition is not None:
        return ctx.gather(tensor, ctx.indices([int(position) for position in np.flatnonzero(condition)]), axis)
    positions = ctx.out("non_zero", ctx.tensor(1))
    return ctx.gather(tensor, ctx.reshape(positions, [-1]), axis)


def _non_zero(ctx: LoweringContext) -> Tensor:
    tensor = ctx.tensor(0)
    if not len(tensor.shape):
        raise ctx.refuse("TensorRT finds no positions in a scalar", "give it an axis")
    return ctx.as_index(ctx.out("non_zero", tensor))


def _non_max_suppression(ctx: LoweringContext) -> Tensor:
    """TensorRT takes scores by box, ONNX by class; the rest is the same."""
    trt = ctx.trt
    boxes, scores = ctx.tensor(0), ctx.transpose(ctx.tensor(1), (0, 2, 1))
    layer = ctx.add("nms", boxes, scores, _threshold(ctx, 2, 0, trt.DataType.INT32))
    formats = trt.BoundingBoxFormat
    layer.bounding_box_format = (
        formats.CENTER_SIZES if ctx.node.integer("center_point_box", 0) else formats.CORNER_PAIRS
    )
    layer.set_input(3, _threshold(ctx, 3, 0.0, trt.DataType.FLOAT))
    layer.set_input(4, _threshold(ctx, 4, float(np.finfo(np.float32).min), trt.DataType.FLOAT))
    return ctx.as_index(layer.get_output(0))


def _threshold(ctx: LoweringContext, index: int, default: float, dtype: object) -> Tensor:
    """A scalar of the layer's type; absent, no overlap is suffered and no score is too small."""
    if ctx.node.has(index) and ctx.node.constant(index) is None:
        return ctx.as_scalar(ctx.cast(ctx.tensor(index), dtype))
    return ctx.scalar(ctx.number_of(index, "a threshold", default), dtype)
