"""Paired timing, and the interval of a median."""

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.runtime import compare_alone, compare_latency
from graphpress.runtime.measure import median_interval


@given(st.lists(st.floats(0.1, 10), min_size=15, max_size=80))
def test_the_interval_holds_the_median(samples):
    low, median, high = median_interval(np.array(samples))
    assert min(samples) <= low <= median <= high <= max(samples)
    assert median == np.median(samples)


def test_the_interval_covers_the_true_median_as_often_as_it_says():
    random = np.random.default_rng(0)
    for count in (15, 41, 100):
        intervals = [median_interval(random.lognormal(size=count)) for _ in range(2000)]
        covered = np.mean([low <= 1.0 <= high for low, _, high in intervals])
        assert 0.94 <= covered <= 0.98


def test_few_samples_give_all_there_is():
    assert median_interval(np.array([1.0, 2.0, 3.0])) == (1.0, 2.0, 3.0)
    assert median_interval(np.array([1.0])) == (1.0, 1.0, 1.0)


def test_twice_the_work_takes_twice_as_long():
    timing = compare_latency(lambda: time.sleep(0.002), lambda: time.sleep(0.004), seconds=0.3)
    assert timing.low > 1.3
    assert timing.low <= timing.ratio <= timing.high
    assert timing.rounds >= 15
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
    assert timing.rounds >= 15
    assert not ready
    changes = sum(before != after for before, after in pairwise(log))
    assert changes == 2  # b a, a b
    assert log[0] == "b"
