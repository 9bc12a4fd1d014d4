"""Intervals and tests: Student's t for a mean of which the spread is not known, the tail of a binomial for counts."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np


def t_interval(samples: np.ndarray, confidence: float) -> tuple[float, float]:
    """Student's interval of the mean of at least two samples, two-sided at ``confidence``.

    >>> [round(bound, 2) for bound in t_interval(np.array([1.0, 2.0, 3.0]), 0.95)]
    [-0.48, 4.48]
    """
    center = float(samples.mean())
    error = float(samples.std(ddof=1)) / math.sqrt(samples.size)
    reach = t_quantile(0.5 + confidence / 2, samples.size - 1) * error
    return center - reach, center + reach


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t: exact for 1 and 2 degrees of freedom, else Abramowitz and Stegun 26.7.5."""
    if freedom == 1:
        return math.tan(math.pi * (probability - 0.5))
    if freedom == 2:
        a = 2 * probability - 1
        return a * math.sqrt(2 / (1 - a * a))
    z, v = NormalDist().inv_cdf(probability), float(freedom)
    terms = (
        z,
        (z**3 + z) / (4 * v),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3),
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4),
    )
    return math.fsum(terms)


def binomial_tail(trials: int, successes: int, chance: float) -> float:
    """The probability of at least so many successes in independent trials.

    >>> round(binomial_tail(10, 9, 0.5), 4)
    0.0107
    """
    return min(1.0, math.fsum(_binomial(trials, count, chance) for count in range(successes, trials + 1)))


def _binomial(trials: int, successes: int, chance: float) -> float:
    """Through logarithms: the numbers of choices are too large for a float."""
    log_choices = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(log_choices + successes * math.log(chance) + (trials - successes) * math.log1p(-chance))
