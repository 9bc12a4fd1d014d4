"""How fast one model is beside another, whichever session of each happens to run: fresh pairs of sessions.

    log ratio of pair i = log ratio of the models + what these two sessions happen to be + noise

The pairs are independent, and Student's interval of the mean of their logarithms holds both spreads. It is wide where
pairs are few: no verdict comes from two of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Protocol, TypeAlias

import numpy as np

from graphpress.runtime.measure import PairedTiming, compare_latency, timing_of
from graphpress.runtime.session import renew

Feed: TypeAlias = Mapping[str, np.ndarray]

LEAST_PAIRS = 6
MOST_PAIRS = 12
LEAST_LARGE = 3
"""Pairs of models that take long to load, or to run."""
LONGER = 10
"""Comparing may take so many times what was asked for, where the models take long to load or to run."""


class Runs(Protocol):
    """Anything that runs a model."""

    def run(self, feed: Feed, /) -> object:
        """Run once."""
        ...


def compare_sessions(a: Runs, b: Runs, feed: Feed, *, seconds: float) -> PairedTiming:
    """Time two models for about ``seconds``, in fresh sessions where they can be loaded anew."""

    def pair(number: int) -> PairedTiming:
        if number:
            renew(a, b)
            (a, b)[number % 2].run(feed)
        return compare_latency(lambda: a.run(feed), lambda: b.run(feed), seconds=seconds / LEAST_PAIRS)

    return over_pairs(pair, lambda joint: True, LONGER * seconds)


def over_pairs(
    pair: Callable[[int], PairedTiming], settled: Callable[[PairedTiming], bool], limit: float
) -> PairedTiming:
    """Time fresh pairs of sessions until the answer is settled, some more if it is not.

    Looking again and again until an interval says what one hopes for would find it in the end. So ``settled`` may end
    the measurement on a verdict that costs nothing where it is wrong; any other rests on all of the pairs.

    Args:
        pair: times one pair of sessions, fresh ones but for the first: called with its number.
        settled: whether nothing depends on more of them.
        limit: seconds after which ``LEAST_LARGE`` pairs are enough.
    """
    timings: list[PairedTiming] = []
    end = time.perf_counter() + limit
    while len(timings) < MOST_PAIRS:
        timings.append(pair(len(timings)))
        is_late = time.perf_counter() > end
        if len(timings) >= (LEAST_LARGE if is_late else LEAST_PAIRS) and (is_late or settled(joined(timings))):
            break
    return joined(timings)


def joined(timings: Sequence[PairedTiming]) -> PairedTiming:
    """The timing over several pairs of sessions; of a single one what it says itself."""
    if len(timings) == 1:
        return timings[0]
    milliseconds = median(timing.a_ms for timing in timings)
    rounds = sum(timing.rounds for timing in timings)
    logs = np.log([timing.ratio for timing in timings])
    return timing_of(math.exp(float(logs.mean())), logs, milliseconds, rounds, len(timings))
