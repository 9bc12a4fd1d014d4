"""Paired latency: two runners interleaved in one process, compared round by round.

Machines are noisy, and slow together: the ratio within a round is far steadier than either time. The bounds
are the exact confidence interval of the median from order statistics (no assumption on the distribution;
David & Nagaraja, Order Statistics, 3rd ed., section 7.1).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

WARM_UP_SECONDS = 0.2
SHORTEST_SAMPLE_SECONDS = 0.002
MIN_ROUNDS = 15
MAX_ROUNDS_A_SECOND = 100
TURNS = 2
"""How often each of two calls that cannot be ready together gets a while."""


@dataclass(frozen=True)
class PairedTiming:
    """Two runners compared.

    Args:
        a_ms: median time of one call of the first, in milliseconds.
        b_ms: the same of the second.
        ratio: median over the rounds of (time of the second / time of the first); below 1 the second is faster.
        low: lower 95 % confidence bound of that median.
        high: upper bound.
        rounds: how many pairs were measured.
    """

    a_ms: float
    b_ms: float
    ratio: float
    low: float
    high: float
    rounds: int


def compare_latency(a: Callable[[], object], b: Callable[[], object], *, seconds: float = 3.0) -> PairedTiming:
    """Time two calls in turn (a b, b a, a b, …) for about ``seconds``, after a warm-up of both.

    Calls shorter than 2 ms are repeated within a sample, so that the clock's own cost does not count.
    """
    repeats = [_repeats(call) for call in (a, b)]
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
    a: Callable[[], object], b: Callable[[], object], put_away: Callable[[], object], *, seconds: float = 3.0
) -> PairedTiming:
    """The same for two calls that take too much memory to be ready together: a while for one, a while for the other.

    The pairs are the samples of two neighboring whiles, in their order: what slows the machine for longer than one of
    them widens the interval.

    Args:
        a: a call, which gets ready by itself, in its warm-up.
        b: the other, which comes first: it may be ready already.
        put_away: called before it is the other's turn.
        seconds: about how long to measure, the getting ready apart.
    """
    times: list[tuple[float, float]] = []
    for turn in range(TURNS):  # b a, a b, …: between two turns nothing has to get ready anew
        first, second = (a, b) if turn % 2 else (b, a)
        before = _samples(first, seconds / (2 * TURNS))
        put_away()
        behind = _samples(second, seconds / (2 * TURNS), len(before))
        times += zip(before, behind, strict=True) if turn % 2 else zip(behind, before, strict=True)
    put_away()
    return _paired(times)


def _samples(call: Callable[[], object], seconds: float, count: int | None = None) -> list[float]:
    """Times of single calls in seconds: for about so long, or so many."""
    repeats, times = _repeats(call), list[float]()
    deadline, least = time.perf_counter() + seconds, count or -(-MIN_ROUNDS // TURNS)
    while len(times) < least or (count is None and time.perf_counter() < deadline):
        times.append(_time(call, repeats))
    return times


def _paired(times: list[tuple[float, float]]) -> PairedTiming:
    firsts, seconds = np.array(times).T
    low, ratio, high = median_interval(seconds / firsts)
    return PairedTiming(1e3 * float(np.median(firsts)), 1e3 * float(np.median(seconds)), ratio, low, high, len(times))


def median_latency(call: Callable[[], object], *, seconds: float = 1.0, warm_up: float = WARM_UP_SECONDS) -> float:
    """Median time of one call in milliseconds, after a warm-up of so many seconds."""
    return 1e3 * float(np.median(call_times(call, seconds=seconds, warm_up=warm_up)))


def call_times(call: Callable[[], object], *, seconds: float, warm_up: float = WARM_UP_SECONDS) -> list[float]:
    """Times of one call in seconds, for about ``seconds``, after a warm-up of so many seconds."""
    repeats, times = _repeats(call, warm_up), list[float]()
    deadline = time.perf_counter() + seconds
    most = int(MAX_ROUNDS_A_SECOND * seconds)
    while len(times) < MIN_ROUNDS or (time.perf_counter() < deadline and len(times) < most):
        times.append(_time(call, repeats))
    return times


def median_interval(samples: np.ndarray) -> tuple[float, float, float]:
    """Lower 95 % bound, median and upper bound, from order statistics.

    >>> median_interval(np.arange(1.0, 102.0))
    (41.0, 51.0, 61.0)
    """
    ordered = np.sort(samples)
    count = len(ordered)
    below, tail = 0, _binomial_half(count, 0)  # the chance that at most `below` of the samples lie under the median
    while (longer := tail + _binomial_half(count, below + 1)) <= 0.025:
        below, tail = below + 1, longer
    return float(ordered[below]), float(np.median(ordered)), float(ordered[count - 1 - below])


def _binomial_half(trials: int, successes: int) -> float:
    """The chance of exactly so many successes in fair trials, without numbers too large for a float."""
    log_choices = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(log_choices - trials * math.log(2))


def _repeats(call: Callable[[], object], warm_up: float = WARM_UP_SECONDS) -> int:
    """Warm up, and find how often to call for one sample."""
    end, calls = time.perf_counter() + warm_up, 0
    started = time.perf_counter()
    while calls < 3 or time.perf_counter() < end:
        call()
        calls += 1
    return max(1, math.ceil(SHORTEST_SAMPLE_SECONDS / ((time.perf_counter() - started) / calls)))


def _time(call: Callable[[], object], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats
