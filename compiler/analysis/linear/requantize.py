"""What has to be encoded anew when a weight changes: its own grid, and that of the bias behind an integer layer.

s(W) = s₀ · max|W| / max|W₀|        per tensor, per index of the axis or per block: a scale follows what it serves
s_bias = s_input · s_weight         the grid of the accumulator that the bias is added to
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphpress.ir import Node
from graphpress.ir.encoding import Quantized, compute_request, read_encoding
from graphpress.ir.quantized import dequantize_array, quantize_array, representable_like

_ACCUMULATOR = 2.0**31


def rounded(array: np.ndarray, encoding: Quantized | None) -> np.ndarray:
    """The numbers of the encoding next to those of the array; the array itself where there is none."""
    return array if encoding is None else dequantize_array(quantize_array(array, encoding), encoding, array.dtype)


def as_read(node: Node, index: int, array: np.ndarray) -> np.ndarray:
    """The array as the node reads its input there: rounded where that is encoded."""
    return rounded(array, read_encoding(node, index))


def refit(encoding: Quantized, old: np.ndarray, new: np.ndarray) -> Quantized:
    """An encoding for new contents: each scale times the growth of the largest element that it serves.

    A scale whose elements are or were all zero stays. Scales of half precision stay in half precision.
    """
    before, after = _largest(old, encoding), _largest(new, encoding)
    sound = (before > 0) & (after > 0) & np.isfinite(after)
    growth = np.divide(after, before, out=np.ones_like(before), where=sound)
    old_scale = np.array(encoding.scale)
    scale = representable_like(old_scale * growth, old_scale)
    return replace(encoding, scale=tuple(float(number) for number in scale), pinned=False)


def _largest(array: np.ndarray, encoding: Quantized) -> np.ndarray:
    """The largest magnitude that each scale serves, flat, in the order of the scales; float64."""
    if encoding.axis is None:
        return np.array([np.abs(array).max(initial=0.0)], np.float64)
    moved = np.abs(np.moveaxis(array, encoding.axis, 0)).astype(np.float64)
    if not encoding.block:
        largest: np.ndarray = moved.reshape(len(moved), -1).max(axis=1)
        return largest
    starts = np.arange(0, len(moved), encoding.block)
    blocks: np.ndarray = np.moveaxis(np.maximum.reduceat(moved, starts, axis=0), 0, encoding.axis)
    return blocks.reshape(-1)


def accumulator_encoding(source: Quantized, weight: Quantized) -> Quantized:
    """The grid of a bias that is added to integer products: int32, as many scales as the weight has.

    Args:
        source: of what the layer reads, with one scale.
        weight: of its weight, by tensor or by output.
    """
    scale = (np.float32(source.scale[0]) * np.array(weight.scale, np.float32)).astype(np.float32)
    axis = 0 if len(scale) > 1 else None
    return Quantized("int32", tuple(float(number) for number in scale), (0,) * len(scale), axis, derived=True)


def bias_encoding(node: Node, weight_index: int, bias: np.ndarray) -> Quantized | None:
    """The grid of an integer layer's bias; None for a layer that adds in float, or where the bias would overflow."""
    source, weight = read_encoding(node, 0), read_encoding(node, weight_index)
    if source is None or weight is None or source.axis is not None or weight.block or compute_request(node) != "int8":
        return None
    encoding = accumulator_encoding(source, weight)
    overflows = np.any(np.abs(bias).reshape(-1) >= np.array(encoding.scale) * _ACCUMULATOR)
    return None if overflows else encoding
