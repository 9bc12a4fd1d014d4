"""The layers that take more than a line of numpy: convolutions, pools, products, normalizations, resampling.

Each function takes TensorRT's module, the layer and the arrays that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)


def _wide(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32)).reshape(array.shape)


def _space(layer: Any, x: np.ndarray, fill: float, size: Any) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Data padded as the layer says."""
    pre, post, mode = list(layer.pre_padding), list(layer.post_padding), layer.padding_mode.name
    strides, dilations = list(layer.stride_nd), list(getattr(layer, "dilation_nd", [1] * len(pre)))
    pads = []
    for axis, length in enumerate(x.shape[2:]):
        extent = (size[axis] - 1) * dilations[axis] + 1
        if mode.startswith("SAME"):
            total = max(0, (-(-length // strides[axis]) - 1) * strides[axis] + extent - length)
            pads.append((total // 2, total - total // 2) if mode == "SAME_UPPER" else (total - total // 2, total // 2))
        else:
            span = length + pre[axis] + post[axis] - extent
            extra = -span % strides[axis] if mode == "EXPLICIT_ROUND_UP" else 0
            pads.append((pre[axis], post[axis] + extra))
    flat = [one for pair in reversed(pads) for one in pair]
    return torch.nn.functional.pad(_wide(x), flat, value=fill), pads


def _kernel(layer: Any, x: np.ndarray, kernel: np.ndarray | None, bias: np.ndarray | None) -> tuple[Any, Any]:
    kernel = np.asarray(layer.kernel) if kernel is None else kernel
    bias = np.asarray(layer.bias) if bias is None and np.size(layer.bias) else bias
    return kernel, None if bias is None or not np.size(bias) else _wide(bias)


def _convolution(trt: Any, layer: Any, x: np.ndarray, kernel: Any = None, bias: Any = None) -> np.ndarray:
    kernel, bias = _kernel(layer, x, kernel, bias)
    size = tuple(layer.kernel_size_nd)
    data, _ = _space(layer, x, 0.0, size)
    weight = _wide(kernel).reshape(layer.num_output_maps, x.shape[1] // layer.num_groups, *size)
    function = (torch.conv2d, torch.conv3d)[len(size) - 2]
    stride, dilation = tuple(layer.stride_nd), tuple(layer.dilation_nd)
    return function(data, weight, bias, stride, 0, dilation, layer.num_groups).numpy()


def _deconvolution(trt: Any, layer: Any, x: np.ndarray, kernel: Any = None, bias: Any = None) -> np.ndarray:
    kernel, bias = _kernel(layer, x, kernel, bias)
    size = tuple(layer.kernel_size_nd)
    weight = _wide(kernel).reshape(x.shape[1], layer.num_output_maps // layer.num_groups, *size)
    function = (torch.conv_transpose2d, torch.conv_transpose3d)[len(size) - 2]
    stride, dilation = tuple(layer.stride_nd), tuple(layer.dilation_nd)
    assert max(stride) == 1 or max(dilation) == 1, "refused by the builder"
    whole = function(_wide(x), weight, bias, stride, 0, 0, layer.num_groups, dilation).numpy()
    cuts = zip(layer.pre_padding, layer.post_padding, whole.shape[2:], strict=True)
    return whole[(slice(None), slice(None), *(slice(pre, end - post) for pre, post, end in cuts))]


def _pooling(trt: Any, layer: Any, x: np.ndarray) -> np.ndarray:
    size, strides = tuple(layer.window_size_nd), tuple(layer.stride_nd)
    most = layer.type == trt.PoolingType.MAX
    windows = _windows(_space(layer, x, -math.inf if most else 0.0, size)[0], size, strides)
    if most:
        return windows.amax(-1).numpy()
    ones, pre, post = np.ones((1, 1, *x.shape[2:]), np.float32), list(layer.pre_padding), list(layer.post_padding)
    if not layer.average_count_excludes_padding:
        ones = np.pad(ones, [(0, 0), (0, 0), *zip(pre, post, strict=True)], constant_values=1)
        missing = [
            whole - have for whole, have in zip(_space(layer, x, 0, size)[0].shape[2:], ones.shape[2:], strict=True)
        ]
        counted = np.pad(ones, [(0, 0), (0, 0), *((0, one) for one in missing)])
    else:
        counted = _space(layer, ones, 0.0, size)[0].numpy()
    return (windows.sum(-1) / _windows(torch.from_numpy(counted), size, strides).sum(-1)).numpy()


def _windows(data: torch.Tensor, size: tuple[int, ...], strides: tuple[int, ...]) -> torch.Tensor:
    for axis, (extent, stride) in enumerate(zip(size, strides, strict=True)):
        data = data.unfold(2 + axis, extent, stride)
    return data.flatten(2 + len(size))


def _matrix_multiply(trt: Any, layer: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    sides = []
    for array, operation, vector_axis in ((a, layer.op0, -2), (b, layer.op1, -1)):
        array = array.astype(np.float32)
        array = np.swapaxes(array, -1, -2) if operation == trt.MatrixOperation.TRANSPOSE else array
        sides.append(np.expand_dims(array, vector_axis) if operation == trt.MatrixOperation.VECTOR else array)
    assert sides[0].ndim == sides[1].ndim
    result = sides[0] @ sides[1]
    result = result.squeeze(-1) if layer.op1 == trt.MatrixOperation.VECTOR else result
    return (
        result.squeeze(-1 if result.ndim < sides[0].ndim else -2) if layer.op0 == trt.MatrixOperation.VECTOR else result
    )


def _axes(mask: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(8) if mask >> axis & 1)


def _softmax(trt: Any, layer: Any, x: np.ndarray) -> np.ndarray:
    (axis,) = _axes(layer.axes)
    return torch.softmax(_wide(x), axis).numpy()


def _normalization(trt: Any, layer: Any, x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    axes, groups, wide = _axes(layer.axes), layer.num_groups, x.astype(np.float32)
    per_channel = axes == tuple(range(2, x.ndim))
    if per_channel and (groups > 1 or scale.shape[1] > 1):
        count = groups if groups > 1 else x.shape[1]
        assert scale.shape[1] == (x.shape[1] if layer.is_v2 or groups == 1 else groups)
        wide, axes = wide.reshape(x.shape[0], count, -1), (2,)
    centered = wide - wide.mean(axes, keepdims=True)
    normal = centered / np.sqrt((centered**2).mean(axes, keepdims=True) + layer.epsilon)
    if not layer.is_v2 and groups > 1:
        scale, bias = (np.repeat(one, x.shape[1] // groups, 1) for one in (scale, bias))
    return normal.reshape(x.shape) * scale.astype(np.float32) + bias.astype(np.float32)


def _grid(scale: np.ndarray, layer: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A scale for each element: one for all, one per index of an axis, or one per block."""
    if scale.size == 1:
        return scale.astype(np.float32).reshape(())
    if scale.ndim == 1:
        return scale.astype(np.float32).reshape([-1 if axis == layer.axis else 1 for axis in range(len(shape))])
    for axis, size in enumerate(shape):
        scale = np.repeat(scale, size // scale.shape[axis], axis)
    return scale.astype(np.float32)


_LIMITS = {"INT8": (-128, 127), "INT4": (-8, 7), "FP8": (-448, 448), "FP4": (-6, 6)}


def _quantize(trt: Any, layer: Any, x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    kind = layer.get_output(0).dtype.name
    scaled = x.astype(np.float32) / _grid(scale, layer, x.shape)
    return np.clip(np.round(scaled) if kind.startswith("INT") else scaled, *_LIMITS[kind])


def _dequantize(trt: Any, layer: Any, q: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return q.astype(np.float32) * _grid(scale, layer, q.shape)


def _lrn(trt: Any, layer: Any, x: np.ndarray) -> np.ndarray:
    size = layer.window_size
    return torch.nn.functional.local_response_norm(_wide(x), size, layer.alpha, layer.beta, layer.k).numpy()


def _einsum(trt: Any, layer: Any, *operands: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum(layer.equation, *(one.astype(np.float32) for one in operands)))


def _attention_input(trt: Any, layer: Any, *operands: np.ndarray) -> np.ndarray:
    query, key, value = (_wide(one) for one in operands[:3])
    key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], 1) for one in (key, value))
    scores = query @ key.transpose(-1, -2)
    kind = layer.attention.causal_kind.name
    if kind != "NONE":
        offset = scores.shape[3] - scores.shape[2] if kind == "LOWER_RIGHT" else 0
        seen = torch.ones(scores.shape[2:], dtype=torch.bool).tril(offset)
        scores = scores.masked_fill(~seen, -math.inf)
    return (torch.softmax(scores, -1) @ value).numpy()


def _grid_sample(trt: Any, layer: Any, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    mode = {"LINEAR": "bilinear", "NEAREST": "nearest", "CUBIC": "bicubic"}[layer.interpolation_mode.name]
    border = {"FILL": "zeros", "CLAMP": "border", "REFLECT": "reflection"}[layer.sample_mode.name]
    return torch.nn.functional.grid_sample(_wide(x), _wide(grid), mode, border, bool(layer.align_corners)).numpy()


def _resize(trt: Any, layer: Any, x: np.ndarray, shape: np.ndarray | None = None) -> np.ndarray:
    scales = list(layer.scales) or None
    wanted = shape if shape is not None else layer.shape
    if scales is not None:
        wanted = [math.floor(size * scale + 1e-6) for size, scale in zip(x.shape, scales, strict=True)]
    result = x.astype(np.float64)
    for axis, (size, target) in enumerate(zip(x.shape, wanted, strict=True)):
        scale = int(target) / size if scales is None else scales[axis]
        if int(target) != size or scale != 1:
            matrix = _resampling(layer, size, int(target), scale)
            result = np.moveaxis(np.tensordot(matrix, result, (1, axis)), 0, axis)
    return result


def _nms(trt: Any, layer: Any, boxes: np.ndarray, scores: np.ndarray, limit: np.ndarray, *rest: np.ndarray) -> Any:
    overlap, least = rest
    if layer.bounding_box_format.name == "CENTER_SIZES":
        center, half = boxes[..., :2], boxes[..., 2:] / 2
        boxes = np.concatenate([center - half, center + half], -1)
    low, high = np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])
    found = []
    for batch, kind in np.ndindex(scores.shape[0], scores.shape[2]):
        kept: list[int] = []
        for box in np.argsort(-scores[batch, :, kind], kind="stable"):
            near = any(_overlap(low[batch], high[batch], box, other) > overlap for other in kept)
            if scores[batch, box, kind] > least and not near and len(kept) < limit:
                kept.append(int(box))
        found += [(batch, kind, box) for box in kept]
    return [np.array(found).reshape(-1, 3), np.array(len(found))]


def _resampling(layer: Any, size: int, target: int, scale: float) -> np.ndarray:
    """How each new position is made of the old ones."""
    places = np.arange(target, dtype=np.float64)
    match layer.coordinate_transformation.name:
        case "HALF_PIXEL":
            places = (places + 0.5) / scale - 0.5
        case "ASYMMETRIC":
            places = places / scale
        case "ALIGN_CORNERS":
            places = places * (size - 1) / (target - 1) if target > 1 else places * 0
    if target == 1 and layer.selector_for_single_pixel.name == "UPPER":
        places = places * 0
    matrix = np.zeros((target, size))
    for row, place in zip(matrix, places, strict=True):
        for index, weight in _taps(layer, float(place), size):
            row[min(max(index, 0), size - 1)] += weight
    return matrix


def _taps(layer: Any, place: float, size: int) -> list[tuple[int, float]]:
    mode = layer.resize_mode.name
    if mode == "NEAREST":
        rounded = {
            "HALF_UP": math.floor(place + 0.5),
            "HALF_DOWN": math.ceil(place - 0.5),
            "FLOOR": math.floor(place),
            "CEIL": math.ceil(place),
        }
        return [(rounded[layer.nearest_rounding.name], 1.0)]
    if mode == "LINEAR":
        place = min(max(place, 0), size - 1)
        return [(math.floor(place), 1 - place % 1), (math.floor(place) + 1, place % 1)]
    taps = [
        (index, _cubic(abs(place - index), layer.cubic_coeff))
        for index in range(math.floor(place) - 1, math.floor(place) + 3)
    ]
    if layer.exclude_outside:
        taps = [(index, weight) for index, weight in taps if 0 <= index < size]
        total = sum(weight for _, weight in taps)
        taps = [(index, weight / total) for index, weight in taps]
    return taps


def _cubic(x: float, a: float) -> float:
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def _overlap(low: np.ndarray, high: np.ndarray, one: int, other: int) -> float:
    """Intersection over union."""
    common = np.prod(np.maximum(0, np.minimum(high[one], high[other]) - np.maximum(low[one], low[other])))
    areas = [float(np.prod(high[box] - low[box])) for box in (one, other)]
    return float(common) / max(sum(areas) - float(common), 1e-12)


KERNELS: dict[str, Callable[..., Any]] = {
    "ATTENTION_INPUT": _attention_input,
    "ATTENTION_OUTPUT": lambda trt, layer, x: x,
    "CONVOLUTION": _convolution,
    "DECONVOLUTION": _deconvolution,
    "DEQUANTIZE": _dequantize,
    "EINSUM": _einsum,
    "GRID_SAMPLE": _grid_sample,
    "LRN": _lrn,
    "MATRIX_MULTIPLY": _matrix_multiply,
    "NMS": _nms,
    "NORMALIZATION": _normalization,
    "POOLING": _pooling,
    "QUANTIZE": _quantize,
    "RESIZE": _resize,
    "SOFTMAX": _softmax,
}
