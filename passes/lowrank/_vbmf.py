"""The rank that a matrix has above noise: empirical variational Bayesian matrix factorization in closed form.

Nakajima, Sugiyama, Babacan and Tomioka, Global analytic solution of fully-observed variational Bayesian matrix
factorization, JMLR 14 (2013), theorem 2 and corollary 1 for the threshold, section 3.4 for the variance of the noise:

    L ≤ M rows and columns,   α = L/M,   τ̄ ≈ 2.5129 √α,   x̄ = (1 + τ̄)(1 + α/τ̄)
    a singular value γ counts where  γ² > M σ² x̄,   and σ² is the minimum of  Σ_h ψ(γ_h² / M σ²)
"""

from __future__ import annotations

import numpy as np

_THRESHOLD = 2.5129
_STEPS = 400


def bayesian_rank(matrix: np.ndarray) -> int:
    """How many singular values of a matrix ``[rows, columns]`` are above its noise; at least 1."""
    values = np.square(np.linalg.svd(matrix, compute_uv=False))
    short, long = sorted(matrix.shape)
    limit = _limit(short / long)
    variances = _variances(values, short, long, limit)
    noise = min(variances, key=lambda variance: _free_energy(values / (long * variance), short / long, limit))
    return max(1, int(np.count_nonzero(values > long * noise * limit)))


def _limit(ratio: float) -> float:
    threshold = _THRESHOLD * np.sqrt(ratio)
    return float((1 + threshold) * (1 + ratio / threshold))


def _variances(values: np.ndarray, short: int, long: int, limit: float) -> np.ndarray:
    """Where the variance of the noise can lie, evenly in logarithms."""
    tiny = np.finfo(float).tiny
    most = max(float(values.sum()) / (short * long), tiny)
    from_here = min(int(np.ceil(short / (1 + short / long))) - 1, short - 1)
    tail = values[from_here:]
    least = max(float(tail[0]) / (long * limit), float(tail.mean()) / long, most * 1e-12)
    return np.geomspace(min(least, most), most, _STEPS)


def _free_energy(scaled: np.ndarray, ratio: float, limit: float) -> float:
    scaled = np.maximum(scaled, np.finfo(float).tiny)
    energy = float((scaled - np.log(scaled)).sum())
    above = scaled[scaled > limit] - (1 + ratio)
    root = (above + np.sqrt(np.maximum(above**2 - 4 * ratio, 0.0))) / 2
    return energy + float((np.log1p(root) + ratio * np.log1p(root / ratio) - root).sum())
