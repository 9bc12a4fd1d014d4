"""How fast one model is beside another, whichever session of each happens to run: fresh pairs of sessions.

    log ratio of pair i = log ratio of the models + what these two sessions happen to be + noise

The pairs are independent, and Student's interval of the mean of their logarithms holds both spreads. It is of no use
where there are one or two: of these the spread is taken to be ``SPREAD``, which is more than was ever measured.

Where loading takes longer than timing, each pair may be the last: a result that looks no slower is believed at once.
What is 1.2 times as slow looks like that in one of thirty cases at this spread (``benchmarks/verdicts.py``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist, median
from typing import Protocol, TypeAlias

import numpy as np

from graphpress.runtime.measure import CONFIDENCE, PairedTiming, compare_latency, timing_of
from graphpress.runtime.session import renew

Feed: TypeAlias = Mapping[str, np.ndarray]

LEAST_PAIRS = 6
MOST_PAIRS = 12
LEAST_LARGE = 3
"""Pairs of models that take long to load, or to run, or of which one is much faster."""
MUCH_FASTER = 0.8
"""Upper bound of a ratio below which nobody asks whether it might be one."""
SPREAD = 0.08
"""Standard deviation of the logarithm of the ratio of a pair of sessions, where too few pairs were timed to tell."""
LONG_LOADING = 2.0
"""Seconds a pair of sessions takes to load, above which they are loaded again only where something depends on it."""
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
    pair: Callable[[int], PairedTiming],
    settled: Callable[[PairedTiming], bool],
    limit: float,
    *,
    loading: float = 0.0,
    end: float = math.inf,
) -> PairedTiming:
    """Time fresh pairs of sessions until the answer is settled, some more if it is not.

    Looking again and again until an interval says what one hopes for would find it in the end. So ``settled`` may end
    the measurement on a verdict that costs nothing where it is wrong; any other rests on all of the pairs. A second
    model that is ``MUCH_FASTER`` needs few of them.

    Args:
        pair: times one pair of sessions, fresh ones but for the first: called with its number.
        settled: whether nothing depends on more of them.
        limit: seconds after which ``LEAST_LARGE`` pairs are enough.
        loading: seconds that it takes to load a pair anew.
        end: moment (``time.monotonic``) beyond which no further pair would last.
    """
    timings: list[PairedTiming] = []
    began, least = time.monotonic(), 1 if loading > LONG_LOADING else LEAST_PAIRS
    while len(timings) < MOST_PAIRS:
        started = time.monotonic()
        timings.append(pair(len(timings)))
        now, count = time.monotonic(), len(timings)
        next_takes = now - started + (loading if count == 1 else 0.0)
        few_are_enough = now - began > limit or joined(timings).high < MUCH_FASTER
        if (
            now + next_takes > end
            or (few_are_enough and count >= LEAST_LARGE)
            or (count >= least and settled(joined(timings)))
        ):
            break
    return joined(timings)


def joined(timings: Sequence[PairedTiming]) -> PairedTiming:
    """The timing over several pairs of sessions."""
    milliseconds = median(timing.a_ms for timing in timings)
    rounds = sum(timing.rounds for timing in timings)
    logs = np.log([timing.ratio for timing in timings])
    ratio = math.exp(float(logs.mean()))
    if len(logs) >= LEAST_LARGE:
        return timing_of(ratio, logs, milliseconds, rounds, len(logs))
    reach = math.exp(NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * SPREAD / math.sqrt(len(logs)))
    return PairedTiming(milliseconds, milliseconds * ratio, ratio, ratio / reach, ratio * reach, rounds, len(logs))
