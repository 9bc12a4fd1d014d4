"""How sure a drop is: confidence intervals from paired scores of two models on the same samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from graphpress.evaluation.evaluate import Score
from graphpress.statistics import t_interval

ROOT_STEPS = 50
"""Halvings of an interval: to the last bits of a float."""


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

    Scores of 0 and 1 take Tango's score interval for paired proportions, others the paired t-interval, which of shares
    (an overlap, say) is cut to what is possible: none falls below 0, or rises above 1. Without scores by sample, or
    with a single one that is neither, there are no bounds.

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
        return Interval(drop, *tango(before.astype(bool), after.astype(bool), confidence))
    if before.size < 2:
        return Interval(drop, None, None)
    low, high = t_interval(before - after, confidence)
    if all(scores.min() >= 0 and scores.max() <= 1 for scores in (before, after)):
        low, high = max(low, float(before.mean()) - 1), min(high, float(before.mean()))
    return Interval(drop, low, high)


def tango(before: np.ndarray, after: np.ndarray, confidence: float) -> tuple[float, float]:
    """Bounds of ``mean(before) - mean(after)`` for paired yes/no scores.

    The score interval of T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17 (1998): all differences that a test does not reject in which the
    shares of discordant pairs are estimated under that difference. It keeps its coverage where no pair is discordant,
    and then depends on the number of pairs alone, not on how many of them are right.

    Args:
        before: booleans, ``[n]``.
        after: booleans of the same samples.
        confidence: two-sided.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    lost, won, n = int((before & ~after).sum()), int((after & ~before).sum()), before.size
    drop = (lost - won) / n
    low = _root(lambda at: _score_of(at, lost, won, n) - z, -1.0, drop)
    high = _root(lambda at: _score_of(at, lost, won, n) + z, drop, 1.0)
    return low, high


def _score_of(drop: float, lost: int, won: int, n: int) -> float:
    """The score statistic of a true drop; it falls as the drop grows."""
    b, c = -lost - won + (2 * n - lost + won) * drop, -won * drop * (1 - drop)
    share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # of pairs won, at its most likely under that drop
    variance = n * (2 * share + drop * (1 - drop))
    distance = lost - won - n * drop
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function has its zero, by bisection; the end that is nearer where it has none."""
    for _ in range(ROOT_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def _is_binary(scores: np.ndarray) -> bool:
    return bool(np.isin(scores, (0.0, 1.0)).all())
