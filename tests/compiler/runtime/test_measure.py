"""Paired timing of two calls."""

import time
from itertools import pairwise

import numpy as np
import pytest

from graphpress.runtime import compare_alone, compare_latency
from graphpress.runtime.measure import _paired, call_times


def test_interruptions_do_not_count():
    random = np.random.default_rng(0)
    clean = np.full((50, 2), (0.001, 0.0012))
    disturbed = clean + random.exponential(0.003, clean.shape) * (random.random(clean.shape) < 0.6)
    timing = _paired([(float(first), float(second)) for first, second in disturbed])
    assert timing.ratio == pytest.approx(1.2, rel=0.02)
    assert timing.a_ms == pytest.approx(1.0, rel=0.02)
    assert timing.low <= timing.ratio <= timing.high


def test_a_machine_that_changes_its_clock_slows_both():
    speeds = np.repeat([1.0, 2.0, 1.5, 3.0, 1.0], 10)
    timing = _paired([(float(speed), 1.2 * float(speed)) for speed in speeds])
    assert (timing.low, timing.ratio, timing.high) == pytest.approx((1.2, 1.2, 1.2))


def test_twice_the_work_takes_twice_as_long():
    timing = compare_latency(lambda: time.sleep(0.002), lambda: time.sleep(0.004), seconds=0.3)
    assert timing.low > 1.3
    assert timing.low <= timing.ratio <= timing.high
    assert timing.rounds >= 5
    assert timing.a_ms == pytest.approx(2, rel=0.6)


def test_the_same_work_is_not_called_slower():
    def work():
        return sum(range(20_000))

    timing = compare_latency(work, work, seconds=0.3)
    assert timing.low < 1.1
    assert timing.high > 0.9


def test_two_that_cannot_be_ready_together_are_timed_alone():
    ready, log = set(), []

    def call(name, seconds):
        def run():
            ready.add(name)
            assert ready == {name}
            log.append(name)
            time.sleep(seconds)

        return run

    timing = compare_alone(call("a", 0.001), call("b", 0.02), ready.clear, seconds=0.1)
    assert timing.a_ms < timing.b_ms
    assert timing.rounds >= 5
    assert ready == {"b"}  # it may go on with it
    assert sum(before != after for before, after in pairwise(log)) == 1


def test_what_both_times_say_is_what_the_ratio_says():
    calls = iter([0.001, 0.003, 0.002] * 40)
    timing = compare_latency(lambda: time.sleep(next(calls)), lambda: time.sleep(0.001), seconds=0.05)
    assert timing.b_ms == pytest.approx(timing.a_ms * timing.ratio)
    back = timing.reversed()
    assert (back.a_ms, back.ratio, back.low) == (timing.b_ms, 1 / timing.ratio, 1 / timing.high)
    assert back.b_ms == pytest.approx(back.a_ms * back.ratio)


def test_what_runs_before_each_call_is_not_in_its_time():
    """One call for each of what comes before it, of which only the call is timed."""
    order = []

    def before():
        order.append("before")
        time.sleep(0.01)

    times = call_times(lambda: order.append("call"), seconds=0.0, warm_up=0.0, before=before)
    assert order[-2 * len(times) :] == ["before", "call"] * len(times)
    assert min(times) < 0.01
