"""What has to be encoded anew when a weight changes: its own grid, and that of the bias behind an integer layer.

s(W) = s₀ · max|W| / max|W₀|        per tensor, per index of the axis or per block: a scale follows what it serves
s_bias = s_input · s_weight         the grid of the accumulator that the bias is added to
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphpress.ir import Node
from graphpress.ir.encoding import (
    AffineEncoding,
    Encoding,
    compute_request,
    read_encoding,
    representable_like,
    round_trip,
    static_affine,
)

_ACCUMULATOR = 2.0**31


def rounded(array: np.ndarray, encoding: Encoding | None) -> np.ndarray:
    """The numbers of the encoding next to those of the array; the array itself where there is none."""
    return array if encoding is None else round_trip(array, encoding)


def as_read(node: Node, index: int, array: np.ndarray) -> np.ndarray:
    """The array as the node reads its input there: rounded where that is encoded."""
    return rounded(array, read_encoding(node, index))


def refit(encoding: AffineEncoding, old: np.ndarray, new: np.ndarray) -> AffineEncoding:
    """An encoding for new contents: each scale times the growth of the largest element that it serves.

    A scale whose elements are or were all zero stays. Scales of half precision stay in half precision.
    """
    before, after = _largest(old, encoding), _largest(new, encoding)
    sound = (before > 0) & (after > 0) & np.isfinite(after)
    growth = np.divide(after, before, out=np.ones_like(before), where=sound)
    scale = representable_like(encoding.scale.astype(np.float64) * growth, encoding.scale)
    return replace(encoding, scale=scale, imported=False)


def _largest(array: np.ndarray, encoding: AffineEncoding) -> np.ndarray:
    """The largest magnitude that each scale serves, in the shape of the scales; float64."""
    if encoding.axis is None:
        return np.array(np.abs(array).max(initial=0.0), np.float64)
    moved = np.abs(np.moveaxis(array, encoding.axis, 0)).astype(np.float64)
    if not encoding.block:
        largest: np.ndarray = moved.reshape(len(moved), -1).max(axis=1)
        return largest
    starts = np.arange(0, len(moved), encoding.block)
    blocks: np.ndarray = np.moveaxis(np.maximum.reduceat(moved, starts, axis=0), 0, encoding.axis)
    return blocks


def accumulator_encoding(source: AffineEncoding, weight: AffineEncoding) -> AffineEncoding:
    """The grid of a bias that is added to integer products: int32, as many scales as the weight has.

    Args:
        source: of what the layer reads, with one scale.
        weight: of its weight, by tensor or by output.
    """
    scale = np.float32(source.scale) * weight.scale.reshape(-1)
    return AffineEncoding("int32", scale, axis=0 if scale.size > 1 else None, derived=True)


def bias_encoding(node: Node, weight_index: int, bias: np.ndarray) -> AffineEncoding | None:
    """The grid of an integer layer's bias; None for a layer that adds in float, or where the bias would overflow."""
    source, weight = (static_affine(read_encoding(node, index)) for index in (0, weight_index))
    if source is None or weight is None or source.axis is not None or weight.block or compute_request(node) != "int8":
        return None
    encoding = accumulator_encoding(source, weight)
    overflows = np.any(np.abs(bias).reshape(-1) >= encoding.scale.astype(np.float64) * _ACCUMULATOR)
    return None if overflows else encoding
