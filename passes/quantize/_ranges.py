"""From what was observed of an activation to its range, and from the range to its encoding."""

from __future__ import annotations

import numpy as np

from graphpress.ir.encoding import AffineEncoding, holds_scale, integer_bounds, representable, to_grid
from graphpress.observation import HistogramObserver
from graphpress.targets import QuantizationPolicy

Range = tuple[float, float]

CLIP_CANDIDATES = np.linspace(0.3, 1.0, 57)


def activation_encoding(observed: Range, policy: QuantizationPolicy) -> AffineEncoding:
    """Per-tensor encoding that covers the range and holds zero exactly."""
    bottom, top = integer_bounds(policy.activations)
    scale = _positive(_step(observed, policy), policy)
    if policy.symmetric_activations:
        return AffineEncoding(policy.activations, np.array(scale), np.array((bottom + top + 1) // 2))
    low = min(observed[0], 0.0)
    zero_point = int(np.clip(np.rint(bottom - low / scale), bottom, top))
    return AffineEncoding(policy.activations, np.array(scale), np.array(zero_point))


def has_scale(observed: Range, policy: QuantizationPolicy) -> bool:
    """Whether the type of the target's scales holds that of the range: half precision ends at small ones."""
    return holds_scale(_step(observed, policy), policy.scales)


def has_weight_scale(weight: np.ndarray, policy: QuantizationPolicy) -> bool:
    """Whether the type of scales holds one for the largest numbers; channels of nearly nothing beside them take any."""
    return not weight.size or holds_scale(
        float(np.abs(weight).max()) / integer_bounds(policy.weights)[1], policy.scales
    )


def _step(observed: Range, policy: QuantizationPolicy) -> float:
    """The distance of two numbers of the grid that covers the range and holds zero."""
    low, high = min(observed[0], 0.0), max(observed[1], 0.0)
    bottom, top = integer_bounds(policy.activations)
    if policy.symmetric_activations:
        return max(-low, high) / (top - (bottom + top + 1) // 2)
    return (high - low) / (top - bottom)


def mse_range(seen: HistogramObserver, policy: QuantizationPolicy) -> Range:
    """The shrunken range whose grid gives the least mean squared error over the histogram.

    Shrinks both ends by one factor (Choukroun et al., arXiv 1902.06822, section 3, with the histogram in
    place of a parametric density); a range that saturates rare large values gains resolution for the rest.
    """
    counts, centers = seen.counts, seen.centers
    used = counts > 0
    counts, centers = counts[used], np.clip(centers[used], seen.low, seen.high)
    if not len(counts) or seen.low == seen.high:
        return seen.low, seen.high
    errors = [
        _squared_error(centers, counts, (seen.low * factor, seen.high * factor), policy) for factor in CLIP_CANDIDATES
    ]
    best = float(CLIP_CANDIDATES[int(np.argmin(errors))])
    return seen.low * best, seen.high * best


def _squared_error(centers: np.ndarray, counts: np.ndarray, candidate: Range, policy: QuantizationPolicy) -> float:
    encoding = activation_encoding(candidate, policy)
    scale, zero_point = float(encoding.scale), int(encoding.zero_point)
    levels = to_grid(centers / scale, zero_point, encoding)
    return float(counts @ np.square((levels - zero_point) * scale - centers))


def _positive(scale: float, policy: QuantizationPolicy) -> float:
    """A usable scale: a constant zero tensor gets 1."""
    usable = scale if scale > np.finfo(np.float32).tiny else 1.0
    return float(representable(np.array(usable), policy.scales))
