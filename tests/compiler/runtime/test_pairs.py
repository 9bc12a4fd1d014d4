"""Verdicts over pairs of sessions, on simulated timings: how often each is right, and what it costs."""

import numpy as np
import pytest

from graphpress.manager.gate import SLOWER, Comparison
from graphpress.runtime import PairedTiming, Session, compare_sessions, over_pairs
from graphpress.runtime.pairs import LEAST_LARGE, LEAST_PAIRS, MOST_PAIRS, joined

SPREAD = 0.08
"""Of the logarithm of the ratio of two sessions of one model, as measured on a machine with other work to do."""


def simulated(truth, seed, spread=SPREAD):
    """Pairs of sessions whose own intervals are far too narrow, as real ones are."""
    random = np.random.default_rng(seed)

    def pair(number):
        ratio = truth * np.exp(random.normal(0, spread))
        return PairedTiming(1.0, ratio, ratio, 0.99 * ratio, 1.01 * ratio, 50)

    return pair


def verdict(truth, seed, bytes_after=100):
    timing = over_pairs(simulated(truth, seed), lambda joint: Comparison(joint, 100, bytes_after).is_settled, 60)
    return Comparison(timing, 100, bytes_after)


def test_a_single_pair_of_sessions_would_often_call_a_copy_slower():
    assert np.mean([simulated(1.0, seed)(0).low > SLOWER for seed in range(400)]) > 0.2


def test_a_copy_is_not_called_slower_and_what_is_a_fifth_slower_is():
    assert sum(verdict(1.0, seed).slower for seed in range(1000)) <= 5
    assert sum(verdict(1.2, seed).slower for seed in range(1000)) >= 950


def test_what_is_not_even_likely_to_be_worse_is_not_looked_at_longer():
    assert verdict(0.9, 0).timing.pairs == LEAST_PAIRS
    assert verdict(1.2, 0).timing.pairs == MOST_PAIRS


def test_what_is_larger_is_looked_at_until_it_is_surely_faster():
    assert verdict(0.5, 0, bytes_after=101).timing.pairs == LEAST_PAIRS
    assert verdict(1.0, 0, bytes_after=101).timing.pairs == MOST_PAIRS


def test_a_few_pairs_are_enough_where_they_take_long():
    assert over_pairs(simulated(1.2, 0), lambda joint: False, 0).pairs == LEAST_LARGE


def test_the_interval_covers_the_truth_as_often_as_it_says():
    timings = [joined([simulated(1.1, seed)(0) for seed in range(start, start + 6)]) for start in range(0, 6000, 6)]
    assert 0.93 <= np.mean([timing.low <= 1.1 <= timing.high for timing in timings]) <= 0.97


def test_one_pair_says_what_it_says_itself():
    assert joined([PairedTiming(2.0, 3.0, 1.5, 1.4, 1.6, 9)]) == PairedTiming(2.0, 3.0, 1.5, 1.4, 1.6, 9)


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
