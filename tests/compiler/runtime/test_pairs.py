"""Verdicts over pairs of sessions, on simulated timings: how often each is right, and what it costs."""

import time

import numpy as np
import pytest

from graphpress.manager.gate import SLOWER, Comparison
from graphpress.runtime import PairedTiming, Session, compare_sessions, over_pairs
from graphpress.runtime.pairs import LEAST_LARGE, LEAST_PAIRS, LONG_LOADING, MOST_PAIRS, SPREAD, joined


def simulated(truth, seed, spread=SPREAD):
    """Pairs of sessions whose own intervals are far too narrow, as real ones are."""
    random = np.random.default_rng(seed)

    def pair(number):
        ratio = truth * np.exp(random.normal(0, spread))
        return PairedTiming(1.0, ratio, ratio, 0.99 * ratio, 1.01 * ratio, 50)

    return pair


def verdict(truth, seed, bytes_after=100, loading=0.0):
    def settled(joint):
        return Comparison(joint, 100, bytes_after).is_settled

    timing = over_pairs(simulated(truth, seed), settled, 60, loading=loading)
    return Comparison(timing, 100, bytes_after)


def test_a_single_pair_of_sessions_would_often_call_a_copy_slower():
    assert np.mean([simulated(1.0, seed)(0).low > SLOWER for seed in range(400)]) > 0.2


@pytest.mark.parametrize("loading", [0.0, 2 * LONG_LOADING])
def test_a_copy_is_not_called_slower_and_what_is_a_fifth_slower_is(loading):
    assert sum(verdict(1.0, seed, loading=loading).slower for seed in range(1000)) <= 5
    assert sum(verdict(1.2, seed, loading=loading).slower for seed in range(1000)) >= 950


def test_what_is_not_even_likely_to_be_worse_is_not_looked_at_longer():
    assert verdict(0.9, 0).timing.pairs == LEAST_PAIRS
    assert verdict(1.2, 0).timing.pairs == MOST_PAIRS


def test_what_is_much_faster_needs_few_pairs():
    assert np.mean([verdict(0.5, seed).timing.pairs for seed in range(100)]) < LEAST_LARGE + 0.2
    assert np.mean([verdict(0.9, seed).timing.pairs for seed in range(100)]) > LEAST_PAIRS - 0.2
    assert np.mean([verdict(1.0, seed).timing.pairs for seed in range(100)]) >= LEAST_PAIRS


def test_what_is_larger_is_looked_at_until_it_is_surely_faster():
    assert verdict(0.85, 0, bytes_after=101).timing.pairs == LEAST_PAIRS
    assert verdict(1.0, 0, bytes_after=101).timing.pairs == MOST_PAIRS


def test_a_few_pairs_are_enough_where_they_take_long():
    assert over_pairs(simulated(1.2, 0), lambda joint: False, 0).pairs == LEAST_LARGE


def test_one_pair_is_enough_for_what_loads_slowly_and_looks_no_slower():
    assert verdict(0.8, 0, loading=2 * LONG_LOADING).timing.pairs == 1
    assert verdict(1.2, 0, loading=2 * LONG_LOADING).timing.pairs == MOST_PAIRS
    copies = [verdict(1.0, seed, loading=2 * LONG_LOADING).timing.pairs for seed in range(500)]
    assert np.mean(copies) < LEAST_LARGE


def test_no_pair_is_begun_that_would_not_end_in_time():
    def never(joint):
        return False

    assert over_pairs(simulated(1.2, 0), never, 60, end=0.0).pairs == 1
    assert over_pairs(simulated(1.2, 0), never, 60, loading=60.0, end=time.monotonic() + 30.0).pairs == 1


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_interval_covers_the_truth_as_often_as_it_says(count):
    seeds = np.arange(1000 * count).reshape(-1, count)
    timings = [joined([simulated(1.1, seed)(0) for seed in row]) for row in seeds]
    assert 0.93 <= np.mean([timing.low <= 1.1 <= timing.high for timing in timings]) <= 0.97


def test_a_model_is_loaded_anew_for_each_pair(network_file, images, monkeypatch):
    loaded, load = [], Session.renew

    def renew(self):
        loaded.append(self)
        load(self)

    monkeypatch.setattr(Session, "renew", renew)
    sessions = Session(network_file), Session(network_file)
    feed = {name: array[:1] for name, array in images.items()}
    timing = compare_sessions(*sessions, feed, seconds=0.3)
    assert timing.pairs == LEAST_PAIRS
    assert [loaded.count(session) for session in sessions] == [LEAST_PAIRS - 1] * 2
    assert timing.b_ms == pytest.approx(timing.a_ms * timing.ratio)
