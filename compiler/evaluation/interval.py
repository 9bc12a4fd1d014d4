"""How sure a drop is: confidence intervals from paired scores of two models on the same samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from graphpress.evaluation.evaluate import Score
from graphpress.statistics import t_interval


@dataclass(frozen=True)
class Interval:
    """A drop of the metric (baseline minus candidate) and its confidence interval.

    Args:
        drop: the difference of both values.
        low: lower confidence bound; None without paired scores.
        high: upper confidence bound; None without paired scores.
    """

    drop: float
    low: float | None
    high: float | None


def drop_interval(baseline: Score, candidate: Score, confidence: float = 0.95) -> Interval:
    """The drop from ``baseline`` to ``candidate``, two-sided at ``confidence``.

    Scores of 0 and 1 take Newcombe's method for paired proportions, others the paired t-interval; without scores by
    sample, or with a single one that is neither, there are no bounds.

    Raises:
        ValueError: the two were measured on different numbers of samples, or ``confidence`` is no probability.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not at {confidence}")
    before, after, drop = baseline.per_sample, candidate.per_sample, baseline.value - candidate.value
    if before is None or after is None:
        return Interval(drop, None, None)
    if before.shape != after.shape:
        raise ValueError(f"{before.size} samples against {after.size}: not paired")
    if _is_binary(before) and _is_binary(after):
        return Interval(drop, *newcombe(before.astype(bool), after.astype(bool), confidence))
    if before.size < 2:
        return Interval(drop, None, None)
    return Interval(drop, *t_interval(before - after, confidence))


def newcombe(before: np.ndarray, after: np.ndarray, confidence: float) -> tuple[float, float]:
    """Bounds of ``mean(before) - mean(after)`` for paired yes/no scores.

    Method 10 of R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based
    on paired data", Statistics in Medicine 17 (1998): Wilson's score intervals of both proportions, joined with the
    phi coefficient of their correlation, continuity-corrected. It keeps its coverage near 0 and 1 and for few samples.

    Args:
        before: booleans, ``[n]``.
        after: booleans of the same samples.
        confidence: two-sided.
    """
    n = before.size
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    first, second = float(before.mean()), float(after.mean())
    low_1, high_1 = wilson(first, n, z)
    low_2, high_2 = wilson(second, n, z)
    phi = _phi(before, after)
    drop = first - second
    below = _joined(first - low_1, high_2 - second, phi)
    above = _joined(high_1 - first, second - low_2, phi)
    return max(-1.0, drop - below), min(1.0, drop + above)


def wilson(share: float, n: int, z: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion of ``n`` (E. B. Wilson, JASA 22, 1927)."""
    center = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return (center - spread) / scale, (center + spread) / scale


def _joined(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(0.0, first * first - 2 * phi * first * second + second * second))


def _phi(before: np.ndarray, after: np.ndarray) -> float:
    n = before.size
    both = int((before & after).sum())
    only_first, only_second = int(before.sum()) - both, int(after.sum()) - both
    neither = n - both - only_first - only_second
    product = float(both * neither - only_first * only_second)
    if product > 0:
        product = max(product - n / 2, 0)
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    return product / math.sqrt(margins) if margins else 0.0


def _is_binary(scores: np.ndarray) -> bool:
    return bool(np.isin(scores, (0.0, 1.0)).all())
