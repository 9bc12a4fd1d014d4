"""Normalisations. Statistics are taken in single precision where ONNX asks for it (``stash_type``) and for halves.

    BatchNormalization         x·s + t  with  s = γ / √(σ² + ε),  t = β - μ·s,  constants combined in double precision
    LayerNormalization,        TensorRT's normalisation layer where scale and bias have the shape of the normalised axes
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

from graphpress.backends.tensorrt.network.call import Call, Result, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.linear import floats
from graphpress.backends.tensorrt.network.types import onnx_type
from graphpress.backends.tensorrt.network.windows import assign
from graphpress.ir import DataType

_SCALE_PER_CHANNEL_SINCE = 21
"""Before this operator set, GroupNormalization had a scale and a bias per group."""
_LARGEST_LRN = 15


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


def _batch_norm(call: Call) -> Tensor:
    x = call.tensor(0)
    floats(call, x)
    if call.integer("training_mode", 0) or any(call.wants(index) for index in range(1, 5)):
        raise call.refuse("BatchNormalization in training mode", "export the model for inference")
    epsilon = call.number("epsilon", 1e-5)
    arrays = [call.constant(index) for index in range(1, 5)]
    rank = len(x.shape)
    if all(array is not None for array in arrays):
        scale, bias, mean, variance = (np.asarray(array, np.float64) for array in arrays)
        factor = scale / np.sqrt(variance + epsilon)
        pair = [call.constant_tensor(_per_channel(one, rank, x)) for one in (factor, bias - mean * factor)]
        return call.elementwise("SUM", call.elementwise("PROD", x, pair[0]), pair[1])
    parameters = [call.tensor(index) for index in range(1, 5)]
    wide = _wider(call, x.dtype, *(one.dtype for one in parameters))
    scale, bias, mean, variance = (_channels(call, call.cast(one, wide), rank) for one in parameters)
    centred = call.elementwise("SUB", call.cast(x, wide), mean)
    factor = call.elementwise("PROD", scale, _inverse_root(call, variance, epsilon))
    return call.cast(call.elementwise("SUM", call.elementwise("PROD", centred, factor), bias), x.dtype)


def _per_channel(numbers: np.ndarray, rank: int, like: Tensor) -> np.ndarray:
    """Numbers [channels] in the type of a tensor, shaped to meet [batch, channels, ...]."""
    shape = [1, -1, *(1,) * (rank - 2)] if rank > 1 else [-1]
    return np.asarray(numbers.astype(onnx_type(like.dtype).numpy()).reshape(shape))


def _channels(call: Call, parameter: Tensor, rank: int) -> Tensor:
    return call.reshape(parameter, [1, -1, *(1,) * (rank - 2)]) if rank > 1 else parameter


def _wider(call: Call, *dtypes: object) -> object:
    """The one type of all, or float32."""
    return dtypes[0] if len(set(dtypes)) == 1 else call.trt.DataType.FLOAT


def _inverse_root(call: Call, variance: Tensor, epsilon: float) -> Tensor:
    shifted = call.elementwise("SUM", variance, call.like(epsilon, variance))
    return call.unary("RECIP", call.unary("SQRT", shifted))


# -- TensorRT's normalisation layer ---------------------------------------------------------------------------


def _normalize(call: Call, x: Tensor, scale: Tensor, bias: Tensor, axes: Sequence[int], groups: int = 1) -> Tensor:
    """(x - μ) / √(σ² + ε) · scale + bias, with statistics over the axes; computed in float32, given in x's type."""
    wide = call.trt.DataType.FLOAT
    kind = "normalization_v2" if hasattr(call.network, "add_normalization_v2") else "normalization"
    mask = sum(1 << axis for axis in axes)
    layer = call.add(kind, *(call.cast(one, wide) for one in (x, scale, bias)), mask)
    layer.epsilon = call.number("epsilon", 1e-5)
    layer.num_groups = groups
    return call.cast(layer.get_output(0), x.dtype)


def _layer_norm(call: Call) -> Sequence[Result]:
    x = call.tensor(0)
    floats(call, x)
    axis = call.axis(-1, len(x.shape))
    scale, bias = call.tensor(1), call.optional(2)
    axes = range(axis, len(x.shape))
    own = tuple(x.shape)[axis:]
    fits = all(one is None or tuple(one.shape) == own for one in (scale, bias)) and -1 not in own
    if fits and not call.wants(1) and not call.wants(2):
        bias = _filled(call, 0, own, scale) if bias is None else bias
        _, scale, bias = call.aligned(x, scale, bias)
        return [_normalize(call, x, scale, bias, axes)]
    return _spelt_layer_norm(call, x, scale, bias, axes)


def _spelt_layer_norm(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor | None, axes: Sequence[int]
) -> Sequence[Result]:
    """The same in single steps, for parameters that are broadcast and for the statistics as outputs."""
    wide = call.cast(x, call.tensorrt_type(_stash(call)))
    mean = call.reduce("AVG", wide, axes)
    centred = call.elementwise("SUB", wide, mean)
    variance = call.reduce("AVG", call.elementwise("PROD", centred, centred), axes)
    inverse = _inverse_root(call, variance, call.number("epsilon", 1e-5))
    y = call.elementwise("PROD", call.cast(call.elementwise("PROD", centred, inverse), x.dtype), scale)
    return [y if bias is None else call.elementwise("SUM", y, bias), mean, inverse]


def _stash(call: Call) -> DataType:
    return DataType(call.integer("stash_type", 1))


def _filled(call: Call, number: float, shape: Sequence[int], like: Tensor) -> Tensor:
    return call.constant_tensor(np.full(tuple(shape), number, onnx_type(like.dtype).numpy()))


def _instance_norm(call: Call) -> Tensor:
    x = call.tensor(0)
    floats(call, x)
    rank = len(x.shape)
    if rank < 3:
        raise call.refuse("InstanceNormalization of data without spatial axes")
    scale, bias = (_channels(call, call.tensor(index), rank) for index in (1, 2))
    return _normalize(call, x, scale, bias, range(2, rank))


def _group_norm(call: Call) -> Tensor:
    x, groups = call.tensor(0), call.integer("num_groups", 1)
    floats(call, x)
    rank, channels = len(x.shape), int(x.shape[1])
    if rank < 3 or channels < 0:
        raise call.refuse("GroupNormalization needs spatial axes and a known number of channels")
    scale, bias = (_repeated(call, index, channels) for index in (1, 2))
    scale, bias = _channels(call, scale, rank), _channels(call, bias, rank)
    if hasattr(call.network, "add_normalization_v2"):
        return _normalize(call, x, scale, bias, range(2, rank), groups)
    shape = [1, groups, *(1,) * (rank - 2)]
    plain = [_filled(call, number, shape, x) for number in (1, 0)]
    normal = _normalize(call, x, plain[0], plain[1], range(2, rank), groups)
    parameters = [call.cast(one, x.dtype) for one in (scale, bias)]
    return call.elementwise("SUM", call.elementwise("PROD", normal, parameters[0]), parameters[1])


def _repeated(call: Call, index: int, channels: int) -> Tensor:
    """A parameter with a number per channel, from one with a number per group (in older operator sets)."""
    given = call.static_shape(index, "scale or bias")[0]
    if call.opset >= _SCALE_PER_CHANNEL_SINCE or given == channels:
        return call.tensor(index)
    groups = np.repeat(np.arange(given), channels // given)
    return call.gather(call.tensor(index), call.indices([int(group) for group in groups]), 0)


# -- others ---------------------------------------------------------------------------------------------------


def _rms_norm(call: Call) -> Tensor:
    x, scale = call.tensor(0), call.tensor(1)
    floats(call, x)
    wide = call.cast(x, call.tensorrt_type(_stash(call)))
    axes = range(call.axis(-1, len(x.shape)), len(x.shape))
    mean = call.reduce("AVG", call.elementwise("PROD", wide, wide), axes)
    inverse = _inverse_root(call, mean, call.number("epsilon", 1e-5))
    return call.elementwise("PROD", call.cast(call.elementwise("PROD", wide, inverse), x.dtype), scale)


def _lp_norm(call: Call) -> Tensor:
    x = call.tensor(0)
    floats(call, x)
    wide, axes = call.cast(x, call.trt.DataType.FLOAT), [call.axis(-1, len(x.shape))]
    if call.integer("p", 2) == 1:
        size = call.reduce("SUM", call.unary("ABS", wide), axes)
    else:
        size = call.unary("SQRT", call.reduce("SUM", call.elementwise("PROD", wide, wide), axes))
    empty = call.elementwise("EQUAL", size, call.like(0, size))
    return call.cast(call.elementwise("DIV", wide, call.select(empty, call.like(1, size), size)), x.dtype)


def _mean_variance(call: Call) -> Tensor:
    x = call.tensor(0)
    floats(call, x)
    rank = len(x.shape)
    axes = [call.from_front(axis, rank) for axis in call.integers("axes") or (0, 2, 3)]
    wide = call.cast(x, call.trt.DataType.FLOAT)
    centred = call.elementwise("SUB", wide, call.reduce("AVG", wide, axes))
    variance = call.reduce("AVG", call.elementwise("PROD", centred, centred), axes)
    spread = call.unary("SQRT", variance)
    shifted = call.elementwise("SUM", spread, call.like(1e-9, spread))
    return call.cast(call.elementwise("DIV", centred, shifted), x.dtype)


def _local_response(call: Call) -> Tensor:
    """Divided by (bias + alpha / size · sum of squares over neighbouring channels) ** beta."""
    x, size = call.tensor(0), call.integer("size", 1)
    floats(call, x)
    sizes = call.sizes(x)
    wide = call.cast(x, call.trt.DataType.FLOAT)
    alpha, beta, bias = call.number("alpha", 1e-4), call.number("beta", 0.75), call.number("bias", 1.0)
    if size % 2 and size <= _LARGEST_LRN:
        flat = call.reshape(wide, [sizes[0], sizes[1], call.product(sizes[2:]), 1])
        return call.cast(call.reshape(call.out("lrn", flat, size, alpha, beta, bias), sizes), x.dtype)
    flat = call.reshape(wide, [sizes[0], 1, sizes[1], call.product(sizes[2:])])
    pool = call.add("pooling_nd", call.elementwise("PROD", flat, flat), call.trt.PoolingType.AVERAGE, (size, 1))
    before = (size - 1) // 2
    assign(call, pool, "pre_padding", (before, 0))
    assign(call, pool, "post_padding", (size - 1 - before, 0))
    pool.average_count_excludes_padding = False
    mean = pool.get_output(0)
    shifted = call.elementwise("SUM", call.elementwise("PROD", mean, call.like(alpha, mean)), call.like(bias, mean))
    divided = call.elementwise("DIV", flat, call.elementwise("POW", shifted, call.like(beta, mean)))
    return call.cast(call.reshape(divided, sizes), x.dtype)
