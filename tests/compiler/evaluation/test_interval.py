"""Confidence intervals: known examples, coverage, and behavior at the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.evaluation import Score, drop_interval
from graphpress.statistics import t_quantile


def paired(both, only_first, only_second, neither):
    first = np.repeat([1, 1, 0, 0], [both, only_first, only_second, neither]).astype(float)
    second = np.repeat([1, 0, 1, 0], [both, only_first, only_second, neither]).astype(float)
    return of(first), of(second)


def of(scores):
    return Score(float(np.mean(scores)), np.asarray(scores, float), len(scores))


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [  # where no pair is discordant, and where all are, the bounds are z^2 / (n + z^2) from the end
        ((36, 12, 2, 0), 0.0611, 0.3447),
        ((0, 0, 0, 50), -0.0714, 0.0714),
        ((20, 0, 0, 30), -0.0714, 0.0714),
        ((30, 0, 0, 0), -0.1135, 0.1135),
        ((0, 30, 0, 0), 0.7730, 1.0),
    ],
)
def test_known_intervals(cells, low, high):
    interval = drop_interval(*paired(*cells))
    assert interval.low == pytest.approx(low, abs=1e-4)
    assert interval.high == pytest.approx(high, abs=1e-4)


cells = st.tuples(*[st.integers(0, 40)] * 4).filter(lambda table: sum(table) > 0)


@given(cells, st.sampled_from([0.8, 0.95, 0.99]))
def test_bounds_hold_the_drop_and_turn_round_with_the_pair(table, confidence):
    first, second = paired(*table)
    there, back = drop_interval(first, second, confidence), drop_interval(second, first, confidence)
    assert -1 <= there.low <= there.drop + 1e-12
    assert there.drop - 1e-12 <= there.high <= 1
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert there.low < there.high


@pytest.mark.parametrize(("n", "cells"), [(50, [0.9, 0.05, 0.02, 0.03]), (500, [0.88, 0.02, 0.01, 0.09])])
def test_coverage_of_paired_proportions(n, cells):
    rng = np.random.default_rng(1)
    hits = 0
    for counts in rng.multinomial(n, cells, 1000):
        interval = drop_interval(*paired(*counts))
        hits += interval.low <= cells[1] - cells[2] <= interval.high
    assert 0.93 <= hits / 1000 <= 0.995


def test_coverage_of_other_scores():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(1000):
        before = rng.random(20)
        after = before - rng.normal(0.1, 0.2, 20)
        interval = drop_interval(of(before), of(after))
        hits += interval.low <= 0.1 <= interval.high
    assert 0.93 <= hits / 1000 <= 0.97


def test_the_bounds_are_where_the_score_test_just_does_not_reject():
    """Against a search for the likelihood's maximum in place of its closed form."""
    lost, won, n = 12, 2, 50
    interval = drop_interval(*paired(36, 12, 2, 0))
    for drop, z in ((interval.low, 1.96), (interval.high, -1.96)):
        share = np.linspace(1e-6, (1 - drop) / 2 - 1e-6, 200_001)
        likelihood = won * np.log(share) + lost * np.log(share + drop) + (n - lost - won) * np.log(1 - 2 * share - drop)
        best = share[likelihood.argmax()]
        assert (lost - won - n * drop) / (n * (2 * best + drop * (1 - drop))) ** 0.5 == pytest.approx(z, abs=1e-3)


def test_shares_neither_fall_below_nothing_nor_rise_above_all():
    overlaps = np.array([1.0, 0.999, 0.4, 1.0, 0.998])
    interval = drop_interval(of(np.ones(5)), of(overlaps))
    assert 0 == interval.low < interval.drop < interval.high <= 1


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (100, 1.9840)]
)
def test_students_quantiles(freedom, quantile):
    assert t_quantile(0.975, freedom) == pytest.approx(quantile, rel=3e-3)


def test_without_paired_scores_there_are_no_bounds():
    plain = Score(0.5, None, 10)
    interval = drop_interval(plain, of([1.0, 0.0]))
    assert (interval.drop, interval.low, interval.high) == (0, None, None)
    assert drop_interval(of([0.5]), of([0.3])).low is None


def test_what_cannot_be_paired():
    with pytest.raises(ValueError, match="not paired"):
        drop_interval(of([1.0]), of([1.0, 0.0]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        drop_interval(of([1.0]), of([1.0]), confidence=95)
