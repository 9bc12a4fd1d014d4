"""Resampling: Resize and Upsample, one axis after the other.

A position of the result reads the input at a coordinate; what lies between pixels is a weighted sum of a few of them:

    y[i] = Σ_k w[i, k] · x[clamp(floor(c_i) + o_k)]

Coordinates are computed in single precision, as ONNX Runtime does: ties fall on the same side then, except for
``round_prefer_ceil`` and ``half_pixel_symmetric``, where its last bit is another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, reduce

import numpy as np
import torch
from torch import Tensor

from graphpress.ops.semantics.resize import ResizeAttributes, has_coordinates, resized
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {"Resize": _resize, "Upsample": _resize}


def _resize(ctx: TranslationContext) -> Kernel:
    attributes, modern = ResizeAttributes.of(ctx.node), has_coordinates(ctx.node)
    axes, given = ctx.node.integers("axes"), ctx.node.numbers("scales")

    def kernel(x: Tensor, *settings: Tensor | None) -> Tensor:
        roi, scales, sizes = (*settings, None, None)[:3] if modern else (None, *settings, None, None)[:3]
        chosen = [axis % x.dim() for axis in axes] if axes else list(range(x.dim()))
        window = None if roi is None or not roi.numel() else tuple(roi.tolist())
        have = [x.shape[axis] for axis in chosen]
        if sizes is not None and sizes.numel():
            lengths, factors = resized([int(number) for number in sizes.tolist()], have, attributes.aspect)
        else:
            factors = list(given) if given is not None else ([] if scales is None else scales.tolist())
            lengths = [
                math.floor(np.float32(size) * np.float32(number)) for size, number in zip(have, factors, strict=True)
            ]
        for index, axis in enumerate(chosen):
            crop = (0.0, 1.0) if window is None else (window[index], window[index + len(chosen)])
            x = _resample(x, axis, lengths[index], factors[index], crop, attributes)
        return x

    return kernel


def _resample(
    x: Tensor, axis: int, length: int, factor: float, crop: tuple[float, float], attributes: ResizeAttributes
) -> Tensor:
    size = x.shape[axis]
    cropped = attributes.coordinates == "tf_crop_and_resize"
    if size == length and factor == 1 and not cropped:
        return x
    places, weights, outside = _taps(size, length, factor, crop if cropped else (0.0, 1.0), attributes)
    if attributes.mode == "nearest":
        result = x.index_select(axis, places[0].to(x.device))
    else:
        shape = [-1 if index == axis else 1 for index in range(x.dim())]
        wide = weights.to(x.device, torch.promote_types(x.dtype, torch.float32))
        parts = [
            x.index_select(axis, place.to(x.device)) * weight.reshape(shape)
            for place, weight in zip(places, wide, strict=True)
        ]
        result = reduce(torch.add, parts).to(x.dtype)
    if cropped and bool(outside.any()):
        result = result.index_fill(axis, outside.nonzero().flatten().to(x.device), attributes.fill)
    return result


@lru_cache(maxsize=256)
def _taps(
    size: int, length: int, factor: float, crop: tuple[float, float], attributes: ResizeAttributes
) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixels each position reads (taps × positions), with which weights, and which positions lie outside."""
    where = _coordinates(size, length, factor, crop, attributes.coordinates)
    outside = torch.from_numpy((where < 0) | (where > size - 1))
    if attributes.mode == "nearest":
        places = np.clip(_rounded(where, factor, attributes.nearest), 0, size - 1).astype(np.int64)
        return torch.from_numpy(places)[None], torch.ones(1, length), outside
    base = np.floor(where)
    offsets, weights = _weights(where - base, factor, attributes)
    places = base.astype(np.int64) + offsets[:, None]
    if attributes.exclude_outside:
        weights = np.where((places >= 0) & (places < size), weights, 0)
        weights = weights / weights.sum(0, keepdims=True)
    return torch.from_numpy(np.clip(places, 0, size - 1)), torch.from_numpy(weights), outside


def _coordinates(size: int, length: int, factor: float, crop: tuple[float, float], mode: str) -> np.ndarray:
    index, scale = np.arange(length, dtype=np.float32), np.float32(factor)
    start, end = crop
    if mode == "align_corners" or mode == "tf_crop_and_resize":
        if length == 1:
            return np.array([0.5 * (start + end) * (size - 1) if mode == "tf_crop_and_resize" else 0.0])
        whole = np.float32(start * (size - 1))
        return np.asarray(whole + index * np.float32((end - start) * (size - 1)) / np.float32(length - 1))
    if mode == "asymmetric":
        return np.asarray(index / scale)
    if mode == "tf_half_pixel_for_nn":
        return np.asarray((index + np.float32(0.5)) / scale)
    if mode == "pytorch_half_pixel" and length == 1:
        return np.zeros(1, np.float32)
    half, offset = np.float32(0.5), np.float32(0)
    if mode == "half_pixel_symmetric":
        kept = np.float32(length) / (scale * np.float32(size))
        offset = np.float32(size) * half * (np.float32(1) - kept)
    return np.asarray(offset + (index + half) / scale - half)


def _rounded(where: np.ndarray, factor: float, mode: str) -> np.ndarray:
    if mode == "simple":
        mode = "ceil" if factor < 1 else "floor"
    rounding: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda places: np.ceil(places - np.float32(0.5)),
        "round_prefer_ceil": lambda places: np.floor(places + np.float32(0.5)),
    }
    return rounding[mode](where)


def _weights(ratio: np.ndarray, factor: float, attributes: ResizeAttributes) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the taps, and their weights (taps × positions) for the distances past the pixel on the left."""
    reach = 1 if attributes.mode == "linear" else 2
    stretch = min(factor, 1.0) if attributes.antialias else 1.0
    first = math.floor(-reach / stretch) + 1
    offsets = np.arange(first, 2 - first)
    distance = np.abs(offsets[:, None] - ratio) * stretch
    if attributes.mode == "linear":
        weights = np.clip(1 - distance, 0, 1)
    else:
        weights = _cubic(distance, attributes.cubic_coeff)
    return offsets, weights / weights.sum(0, keepdims=True)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys, "Cubic convolution interpolation for digital image processing", 1981, eq. 15."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
