"""Paired latency: two runners interleaved in one process, compared over the same while.

What else a machine does only ever adds to a time. The time of a call is therefore the tenth percentile of its samples,
which holds still where the median wanders: on two cores with nine processes, the logarithm of the ratio of two sessions
has a standard deviation of 0.02 instead of 0.3. Machines also change their clock, so that times are compared block by
block, and the bounds are Student's interval over the blocks.

They hold for these two sessions. Where memory lies and which threads a session gets make it up to some ten percent
faster or slower than another of the same file, for as long as it lives: ``graphpress.runtime.pairs`` compares models.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from graphpress.statistics import t_interval

WARM_UP_SECONDS = 0.2
SHORTEST_SAMPLE_SECONDS = 0.002
MIN_ROUNDS = 5
BLOCKS = 5
UNDISTURBED = 0.1
CONFIDENCE = 0.95
MAX_ROUNDS_A_SECOND = 100
MIN_CALLS = 2
"""Least calls of a warm-up, behind the first, which may load the model."""


@dataclass(frozen=True)
class PairedTiming:
    """Two runners compared.

    Args:
        a_ms: time of one undisturbed call of the first, in milliseconds.
        b_ms: the same of the second: ``ratio`` times that of the first, so that the two say what the ratio says.
        ratio: of the time of the second to that of the first; below 1 the second is faster.
        low: its lower 95 % confidence bound.
        high: upper bound.
        rounds: how often the two were timed in turn.
        pairs: how many sessions of each were timed; the interval holds the spread between them from two on.
    """

    a_ms: float
    b_ms: float
    ratio: float
    low: float
    high: float
    rounds: int
    pairs: int = 1

    def reversed(self) -> PairedTiming:
        """The first of the two against the second."""
        return replace(self, a_ms=self.b_ms, b_ms=self.a_ms, ratio=1 / self.ratio, low=1 / self.high, high=1 / self.low)


def compare_latency(a: Callable[[], object], b: Callable[[], object], *, seconds: float = 0.5) -> PairedTiming:
    """Time two calls in turn (a b, b a, a b, …) for about ``seconds``, after a warm-up of both.

    Calls shorter than 2 ms are repeated within a sample, so that the clock's own cost does not count.
    """
    repeats = [repeats_of(call) for call in (a, b)]
    times: list[tuple[float, float]] = []
    deadline = time.perf_counter() + seconds
    most = int(MAX_ROUNDS_A_SECOND * seconds)
    while len(times) < MIN_ROUNDS or (time.perf_counter() < deadline and len(times) < most):
        if len(times) % 2:
            second = _time(b, repeats[1])
            first = _time(a, repeats[0])
        else:
            first = _time(a, repeats[0])
            second = _time(b, repeats[1])
        times.append((first, second))
    return _paired(times)


def compare_alone(
    first: Callable[[], object], second: Callable[[], object], put_away: Callable[[], object], *, seconds: float = 1.0
) -> PairedTiming:
    """The same for two calls that take too much memory to be ready together: a while for one, a while for the other.

    Args:
        first: a call, which gets ready by itself, in its warm-up; it may be ready already, and so is the other behind.
        second: the other.
        put_away: called before it is the other's turn.
        seconds: about how long to measure, the getting ready apart.
    """
    before = _samples(first, seconds / 2)
    put_away()
    return _paired(list(zip(before, _samples(second, seconds / 2, len(before)), strict=True)))


def _samples(call: Callable[[], object], seconds: float, count: int | None = None) -> list[float]:
    """Times of single calls in seconds: for about so long, or so many."""
    repeats, times = repeats_of(call), list[float]()
    deadline, least = time.perf_counter() + seconds, count or MIN_ROUNDS
    while len(times) < least or (count is None and time.perf_counter() < deadline):
        times.append(_time(call, repeats))
    return times


def _paired(times: list[tuple[float, float]]) -> PairedTiming:
    first, second = (float(time) for time in undisturbed(np.array(times)))
    blocks = [undisturbed(block) for block in np.array_split(np.array(times), BLOCKS)]
    spread = np.log([block[1] / block[0] for block in blocks])
    return timing_of(second / first, spread, 1e3 * first, len(times))


def timing_of(ratio: float, logs: np.ndarray, milliseconds: float, rounds: int, pairs: int = 1) -> PairedTiming:
    """A ratio with Student's interval.

    Args:
        ratio: measured.
        logs: logarithms of at least two independent measurements of it.
        milliseconds: time of the first of those compared.
        rounds: measured for this in all.
        pairs: of sessions.
    """
    low, high = t_interval(logs, CONFIDENCE)
    reach = math.exp((high - low) / 2)
    return PairedTiming(milliseconds, milliseconds * ratio, ratio, ratio / reach, ratio * reach, rounds, pairs)


def undisturbed(times: np.ndarray) -> np.ndarray:
    """The tenth percentile along the first axis: what a call takes while the machine does nothing else."""
    return np.asarray(np.quantile(times, UNDISTURBED, axis=0))


def undisturbed_latency(
    call: Callable[[], object],
    *,
    seconds: float = 1.0,
    warm_up: float = WARM_UP_SECONDS,
    before: Callable[[], object] | None = None,
) -> float:
    """Time of one undisturbed call in milliseconds; the arguments are those of ``call_times``."""
    return 1e3 * float(undisturbed(np.array(call_times(call, seconds=seconds, warm_up=warm_up, before=before))))


def call_times(
    call: Callable[[], object],
    *,
    seconds: float,
    warm_up: float = WARM_UP_SECONDS,
    before: Callable[[], object] | None = None,
) -> list[float]:
    """Times of one call in seconds.

    Args:
        call: is timed.
        seconds: for about how long.
        warm_up: seconds for which it is called first.
        before: runs ahead of each call, outside of its time: what the caches hold when a call begins is its doing.
    """
    repeats, times = repeats_of(call, warm_up=warm_up), list[float]()
    deadline = time.perf_counter() + seconds
    most = int(MAX_ROUNDS_A_SECOND * seconds)
    while len(times) < MIN_ROUNDS or (time.perf_counter() < deadline and len(times) < most):
        if before is not None:
            before()
        times.append(_time(call, repeats if before is None else 1))
    return times


def repeats_of(call: Callable[[], object], *, warm_up: float = WARM_UP_SECONDS) -> int:
    """Warm up, and find how often to call for one sample."""
    call()
    started, calls = time.perf_counter(), 0
    end = started + warm_up
    while calls < MIN_CALLS or time.perf_counter() < end:
        call()
        calls += 1
    return max(1, math.ceil(SHORTEST_SAMPLE_SECONDS / ((time.perf_counter() - started) / calls)))


def _time(call: Callable[[], object], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats
