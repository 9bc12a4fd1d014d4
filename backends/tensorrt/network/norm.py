"""Normalizations. Statistics are taken in single precision where ONNX requires it (``stash_type``) and for halves.

    BatchNormalization         x·s + t  with  s = γ / √(σ² + ε),  t = β - μ·s,  constants combined in double precision
    LayerNormalization,        TensorRT's normalization layer where scale and bias have the shape of the normalized axes
    Instance-, GroupNorm.
    RMSNormalization           x / √(mean x² + ε) · γ
    LpNormalization            x / ‖x‖, zero where x is all zero
    LRN                        TensorRT's layer for odd windows, else a pool of squares over the channels
    MeanVarianceNormalization  (x - μ) / (σ + 1e-9)

Refused: BatchNormalization that trains, and channels of an unknown number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Result, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.types import onnx_type
from graphpress.backends.tensorrt.network.windows import assign
from graphpress.ir import DataType, normalize_axis

_SCALE_PER_CHANNEL_SINCE = 21
"""Before this operator set, GroupNormalization had a scale and a bias per group."""
_MAX_LRN = 15


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "BatchNormalization": _batch_norm,
        "GroupNormalization": _group_norm,
        "InstanceNormalization": _instance_norm,
        "LRN": _local_response,
        "LayerNormalization": _layer_norm,
        "LpNormalization": _lp_norm,
        "MeanVarianceNormalization": _mean_variance,
        "RMSNormalization": _rms_norm,
    }


# -- with known statistics ------------------------------------------------------------------------------------


def _batch_norm(ctx: LoweringContext) -> Tensor:
    x = ctx.tensor(0)
    ctx.require_floats(x)
    if ctx.node.integer("training_mode", 0) or any(ctx.node.uses_output(index) for index in range(1, 5)):
        raise ctx.refuse("BatchNormalization in training mode", "export the model for inference")
    epsilon = ctx.node.number("epsilon", 1e-5)
    arrays = [ctx.node.constant(index) for index in range(1, 5)]
    rank = len(x.shape)
    if all(array is not None for array in arrays):
        scale, bias, mean, variance = (np.asarray(array, np.float64) for array in arrays)
        factor = scale / np.sqrt(variance + epsilon)
        pair = [ctx.constant_tensor(_per_channel(parameter, rank, x)) for parameter in (factor, bias - mean * factor)]
        return ctx.elementwise("SUM", ctx.elementwise("PROD", x, pair[0]), pair[1])
    parameters = [ctx.tensor(index) for index in range(1, 5)]
    wide = _wider(ctx, x.dtype, *(parameter.dtype for parameter in parameters))
    scale, bias, mean, variance = (_channels(ctx, ctx.cast(parameter, wide), rank) for parameter in parameters)
    centered = ctx.elementwise("SUB", ctx.cast(x, wide), mean)
    factor = ctx.elementwise("PROD", scale, _inverse_root(ctx, variance, epsilon))
    return ctx.cast(ctx.elementwise("SUM", ctx.elementwise("PROD", centered, factor), bias), x.dtype)


def _per_channel(numbers: np.ndarray, rank: int, like: Tensor) -> np.ndarray:
    """Numbers [channels] in the type of a tensor, shaped to meet [batch, channels, ...]."""
    shape = [1, -1, *(1,) * (rank - 2)] if rank > 1 else [-1]
    return np.asarray(numbers.astype(onnx_type(like.dtype).numpy()).reshape(shape))


def _channels(ctx: LoweringContext, parameter: Tensor, rank: int) -> Tensor:
    return ctx.reshape(parameter, [1, -1, *(1,) * (rank - 2)]) if rank > 1 else parameter


def _wider(ctx: LoweringContext, *dtypes: object) -> object:
    """The one type of all, or float32."""
    return dtypes[0] if len(set(dtypes)) == 1 else ctx.trt.DataType.FLOAT


def _inverse_root(ctx: LoweringContext, variance: Tensor, epsilon: float) -> Tensor:
    shifted = ctx.elementwise("SUM", variance, ctx.like(epsilon, variance))
    return ctx.unary("RECIP", ctx.unary("SQRT", shifted))


# -- TensorRT's normalization layer ---------------------------------------------------------------------------


def _normalize(
    ctx: LoweringContext, x: Tensor, scale: Tensor, bias: Tensor, axes: Sequence[int], groups: int = 1
) -> Tensor:
    """(x - μ) / √(σ² + ε) · scale + bias, with statistics over the axes; computed in float32, given in x's type."""
    wide = ctx.trt.DataType.FLOAT
    kind = "normalization_v2" if hasattr(ctx.network, "add_normalization_v2") else "normalization"
    mask = sum(1 << axis for axis in axes)
    layer = ctx.add(kind, *(ctx.cast(operand, wide) for operand in (x, scale, bias)), mask)
    layer.epsilon = ctx.node.number("epsilon", 1e-5)
    layer.num_groups = groups
    return ctx.cast(layer.get_output(0), x.dtype)


def _layer_norm(ctx: LoweringContext) -> Sequence[Result]:
    x = ctx.tensor(0)
    ctx.require_floats(x)
    axis = ctx.node.axis(-1, len(x.shape))
    scale, bias = ctx.tensor(1), ctx.optional(2)
    axes = range(axis, len(x.shape))
    own = tuple(x.shape)[axis:]
    fits = all(parameter is None or tuple(parameter.shape) == own for parameter in (scale, bias)) and -1 not in own
    if fits and not ctx.node.uses_output(1) and not ctx.node.uses_output(2):
        bias = _filled(ctx, 0, own, scale) if bias is None else bias
        _, scale, bias = ctx.aligned(x, scale, bias)
        return [_normalize(ctx, x, scale, bias, axes)]
    return _decomposed_layer_norm(ctx, x, scale, bias, axes)


def _decomposed_layer_norm(
    ctx: LoweringContext, x: Tensor, scale: Tensor, bias: Tensor | None, axes: Sequence[int]
) -> Sequence[Result]:
    """The same in single steps, for parameters that are broadcast and for the statistics as outputs."""
    wide = ctx.cast(x, ctx.tensorrt_type(_stash(ctx)))
    mean = ctx.reduce("AVG", wide, axes)
    centered = ctx.elementwise("SUB", wide, mean)
    variance = ctx.reduce("AVG", ctx.elementwise("PROD", centered, centered), axes)
    inverse = _inverse_root(ctx, variance, ctx.node.number("epsilon", 1e-5))
    y = ctx.elementwise("PROD", ctx.cast(ctx.elementwise("PROD", centered, inverse), x.dtype), scale)
    return [y if bias is None else ctx.elementwise("SUM", y, bias), mean, inverse]


def _stash(ctx: LoweringContext) -> DataType:
    return DataType(ctx.node.integer("stash_type", 1))


def _filled(ctx: LoweringContext, number: float, shape: Sequence[int], like: Tensor) -> Tensor:
    return ctx.constant_tensor(np.full(tuple(shape), number, onnx_type(like.dtype).numpy()))


def _instance_norm(ctx: LoweringContext) -> Tensor:
    x = ctx.tensor(0)
    ctx.require_floats(x)
    rank = len(x.shape)
    if rank < 3:
        raise ctx.refuse("InstanceNormalization of data without spatial axes")
    scale, bias = (_channels(ctx, ctx.tensor(index), rank) for index in (1, 2))
    return _normalize(ctx, x, scale, bias, range(2, rank))


def _group_norm(ctx: LoweringContext) -> Tensor:
    x, groups = ctx.tensor(0), ctx.node.integer("num_groups", 1)
    ctx.require_floats(x)
    rank, channels = len(x.shape), int(x.shape[1])
    if rank < 3 or channels < 0:
        raise ctx.refuse("GroupNormalization needs spatial axes and a known number of channels")
    scale, bias = (_repeated(ctx, index, channels) for index in (1, 2))
    scale, bias = _channels(ctx, scale, rank), _channels(ctx, bias, rank)
    if hasattr(ctx.network, "add_normalization_v2"):
        return _normalize(ctx, x, scale, bias, range(2, rank), groups)
    shape = [1, groups, *(1,) * (rank - 2)]
    plain = [_filled(ctx, number, shape, x) for number in (1, 0)]
    normal = _normalize(ctx, x, plain[0], plain[1], range(2, rank), groups)
    parameters = [ctx.cast(parameter, x.dtype) for parameter in (scale, bias)]
    return ctx.elementwise("SUM", ctx.elementwise("PROD", normal, parameters[0]), parameters[1])


def _repeated(ctx: LoweringContext, index: int, channels: int) -> Tensor:
    """A parameter with a number per channel, from one with a number per group (in older operator sets)."""
    given = ctx.static_shape(index, "scale or bias")[0]
    if ctx.node.opset >= _SCALE_PER_CHANNEL_SINCE or given == channels:
        return ctx.tensor(index)
    groups = np.repeat(np.arange(given), channels // given)
    return ctx.gather(ctx.tensor(index), ctx.indices([int(group) for group in groups]), 0)


# -- others ---------------------------------------------------------------------------------------------------


def _rms_norm(ctx: LoweringContext) -> Tensor:
    x, scale = ctx.tensor(0), ctx.tensor(1)
    ctx.require_floats(x)
    wide = ctx.cast(x, ctx.tensorrt_type(_stash(ctx)))
    axes = range(ctx.node.axis(-1, len(x.shape)), len(x.shape))
    mean = ctx.reduce("AVG", ctx.elementwise("PROD", wide, wide), axes)
    inverse = _inverse_root(ctx, mean, ctx.node.number("epsilon", 1e-5))
    return ctx.elementwise("PROD", ctx.cast(ctx.elementwise("PROD", wide, inverse), x.dtype), scale)


def _lp_norm(ctx: LoweringContext) -> Tensor:
    x = ctx.tensor(0)
    ctx.require_floats(x)
    wide, axes = ctx.cast(x, ctx.trt.DataType.FLOAT), [ctx.node.axis(-1, len(x.shape))]
    if ctx.node.integer("p", 2) == 1:
        size = ctx.reduce("SUM", ctx.unary("ABS", wide), axes)
    else:
        size = ctx.unary("SQRT", ctx.reduce("SUM", ctx.elementwise("PROD", wide, wide), axes))
    empty = ctx.elementwise("EQUAL", size, ctx.like(0, size))
    return ctx.cast(ctx.elementwise("DIV", wide, ctx.select(empty, ctx.like(1, size), size)), x.dtype)


def _mean_variance(ctx: LoweringContext) -> Tensor:
    x = ctx.tensor(0)
    ctx.require_floats(x)
    rank = len(x.shape)
    axes = [normalize_axis(axis, rank) for axis in ctx.node.integers("axes") or (0, 2, 3)]
    wide = ctx.cast(x, ctx.trt.DataType.FLOAT)
    centered = ctx.elementwise("SUB", wide, ctx.reduce("AVG", wide, axes))
    variance = ctx.reduce("AVG", ctx.elementwise("PROD", centered, centered), axes)
    spread = ctx.unary("SQRT", variance)
    shifted = ctx.elementwise("SUM", spread, ctx.like(1e-9, spread))
    return ctx.cast(ctx.elementwise("DIV", centered, shifted), x.dtype)


def _local_response(ctx: LoweringContext) -> Tensor:
    """Divided by (bias + alpha / size · sum of squares over neighboring channels) ** beta."""
    x, size = ctx.tensor(0), ctx.node.integer("size", 1)
    ctx.require_floats(x)
    sizes = ctx.sizes(x)
    wide = ctx.cast(x, ctx.trt.DataType.FLOAT)
    alpha, beta, bias = ctx.node.number("alpha", 1e-4), ctx.node.number("beta", 0.75), ctx.node.number("bias", 1.0)
    if size % 2 and size <= _MAX_LRN:
        flat = ctx.reshape(wide, [sizes[0], sizes[1], ctx.product(sizes[2:]), 1])
        return ctx.cast(ctx.reshape(ctx.out("lrn", flat, size, alpha, beta, bias), sizes), x.dtype)
    flat = ctx.reshape(wide, [sizes[0], 1, sizes[1], ctx.product(sizes[2:])])
    pool = ctx.add("pooling_nd", ctx.elementwise("PROD", flat, flat), ctx.trt.PoolingType.AVERAGE, (size, 1))
    before = (size - 1) // 2
    assign(ctx, pool, "pre_padding", (before, 0))
    assign(ctx, pool, "post_padding", (size - 1 - before, 0))
    pool.average_count_excludes_padding = False
    mean = pool.get_output(0)
    shifted = ctx.elementwise("SUM", ctx.elementwise("PROD", mean, ctx.like(alpha, mean)), ctx.like(bias, mean))
    divided = ctx.elementwise("DIV", flat, ctx.elementwise("POW", shifted, ctx.like(beta, mean)))
    return ctx.cast(ctx.reshape(divided, sizes), x.dtype)
