"""The scale of each block of a weight that leaves the least squared error.

    min over c of  Σ (s · clamp(round(w / s), low, high) − w)²       with  s = c · max|w| / high

A scale that cuts off the few largest numbers of a block gains resolution for the others. The candidates c are fixed,
no data is looked at, and the error is that of the scale as it will be stored.
"""

from __future__ import annotations

import numpy as np

from graphpress.ir.encoding import AffineEncoding, integer_bounds, representable

CLIP_CANDIDATES = np.linspace(1.0, 0.6, 21)
ROWS_AT_ONCE = 1 << 13


def block_encoding(weight: np.ndarray, axis: int, block: int, dtype: str, scales: str) -> AffineEncoding:
    """Symmetric encoding of a matrix with one scale for each run of numbers along an axis.

    Args:
        weight: ``[K, N]`` or ``[N, K]``.
        axis: the contracted axis K.
        block: numbers that share a scale, a divisor of K; 0 for all K of them.
        dtype: integer type, by its ONNX name in lower case.
        scales: float type that holds every scale exactly.
    """
    size = block or weight.shape[axis]
    rows = np.moveaxis(weight, axis, -1).reshape(-1, size)
    parts = [
        _best_scales(rows[start : start + ROWS_AT_ONCE], dtype, scales) for start in range(0, len(rows), ROWS_AT_ONCE)
    ]
    best = np.concatenate(parts).reshape(weight.shape[1 - axis], -1)
    if not block:
        return AffineEncoding(dtype, best.reshape(-1), axis=1 - axis)
    return AffineEncoding(dtype, best.T if axis == 0 else best, axis=axis, block=block)


def _best_scales(rows: np.ndarray, dtype: str, scales: str) -> np.ndarray:
    low, high = integer_bounds(dtype)
    rows = rows.astype(np.float32)
    largest = np.abs(rows).max(axis=1)
    best: np.ndarray = np.zeros_like(largest)
    least = np.full_like(largest, np.inf)
    for clip in CLIP_CANDIDATES:
        scale = representable(np.where(largest > 0, clip * largest / high, 1.0), scales)
        held = np.clip(np.rint(rows / scale[:, None]), low, high) * scale[:, None]
        error = np.square(held - rows).sum(axis=1)
        better = error < least
        best[better], least[better] = scale[better], error[better]
    return best
