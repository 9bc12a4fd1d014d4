"""Observers against numpy on everything at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from graphpress.observation import HistogramObserver, MinMaxObserver
from graphpress.observation.observers import BINS, ENOUGH_BINNED, MAX_ELEMENTS_BINNED

FLOATS = st.floats(-1e6, 1e6, width=32)
BATCHES = st.lists(arrays.arrays(np.float32, st.integers(0, 50), elements=FLOATS), min_size=1, max_size=6)


def watch(batches, kind=HistogramObserver):
    seen = kind()
    for batch in batches:
        seen.update(batch)
    return seen


@given(BATCHES)
def test_extrema_are_those_of_everything(batches):
    whole = np.concatenate(batches)
    for kind in (MinMaxObserver, HistogramObserver):
        seen = watch(batches, kind)
        if whole.size:
            assert (seen.low, seen.high) == (whole.min(), whole.max())
        else:
            assert (seen.low, seen.high) == (np.inf, -np.inf)


@given(BATCHES)
def test_nothing_is_lost_when_the_histogram_grows(batches):
    whole = np.concatenate(batches)
    seen = watch(batches)
    assert seen.counts.sum() == whole.size
    assert not whole.any() or np.abs(whole).max() <= seen.radius


@given(BATCHES)
def test_streaming_gives_what_one_batch_gives(batches):
    """But for values that lie on the edge of a bin in one histogram and beside it in the other."""
    parts, whole = watch(batches), watch([np.concatenate(batches)])
    assert parts.radius == whole.radius
    assert np.abs(np.cumsum(parts.counts - whole.counts)).max(initial=0) <= np.concatenate(batches).size
    for percentile in (50.0, 90.0, 99.9):
        width = 2 * (whole.radius or 1) / BINS
        np.testing.assert_allclose(
            parts.percentile_range(percentile), whole.percentile_range(percentile), atol=2 * width
        )


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([90.0, 99.0, 99.9, 99.99]),
    st.sampled_from(["normal", "relu", "laplace"]),
)
def test_percentiles_are_numpys_within_a_bin_and_a_rank(seed, percentile, shape):
    random = np.random.default_rng(seed)
    values = {"normal": random.normal, "laplace": random.laplace, "relu": random.normal}[shape](1.0, 3.0, 20_000)
    values = np.maximum(values, 0.0) if shape == "relu" else values
    values = values.astype(np.float32)
    seen = watch(np.array_split(values, 7))
    low, high = seen.percentile_range(percentile)
    width, rank = 2 * seen.radius / BINS, 100 / values.size
    for found, share in ((low, 100 - percentile), (high, percentile)):
        least, most = np.percentile(values, [max(share - rank, 0), min(share + rank, 100)])
        assert least - width <= found <= most + width


def test_the_whole_range_is_the_extrema():
    values = np.float32([-3, 0, 1, 2])
    assert watch([values]).percentile_range(100.0) == (-3.0, 2.0)


@pytest.mark.parametrize("values", [np.zeros(10), np.full(10, 7.0), np.full(10, -1e-30), np.array([])])
def test_constant_tensors(values):
    values = values.astype(np.float32)
    low, high = watch([values]).percentile_range(99.0)
    assert all(low <= float(value) <= high for value in values)


def test_zeros_before_anything_else_are_counted_at_zero():
    seen = watch([np.zeros(90, np.float32), np.ones(10, np.float32) * 5])
    assert seen.counts[BINS // 2] == 90
    low, high = seen.percentile_range(80.0)
    assert low == 0.0
    assert high <= 2 * seen.radius / BINS


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [MinMaxObserver, HistogramObserver])
def test_what_is_not_finite_shows_in_the_extrema(kind, bad):
    seen = watch([np.float32([1, bad]), np.float32([2])], kind)
    assert not np.isfinite([seen.low, seen.high]).all()


def test_large_batches_are_sampled_but_their_extrema_are_exact():
    values = np.random.default_rng(0).normal(size=3 * MAX_ELEMENTS_BINNED).astype(np.float32)
    values[1] = 100.0
    seen = watch([values])
    assert seen.high == 100.0
    assert seen.binned <= 2 * MAX_ELEMENTS_BINNED
    assert seen.counts.sum() == values.size
    assert abs(seen.percentile_range(99.0)[1] - np.percentile(values, 99.0)) < 0.05


def test_many_batches_are_looked_at_less_and_weigh_the_same():
    """Of 40 batches the last quarter lies elsewhere: it is a quarter of the histogram."""
    low, high = (np.linspace(start, start + 1, ENOUGH_BINNED // 8, dtype=np.float32) for start in (1, -2))
    few, many = watch([low] * 4), watch([low] * 30 + [high] * 10)
    assert few.binned == 4 * low.size
    assert many.binned < 17 * low.size
    assert many.counts.sum() == 40 * low.size
    assert many.counts[: BINS // 2].sum() / many.counts.sum() == pytest.approx(0.25, abs=1e-3)


def test_memory_does_not_depend_on_how_much_was_seen():
    seen = watch(np.random.default_rng(0).normal(size=(100, 1000)))
    assert {name for name, value in vars(seen).items() if isinstance(value, np.ndarray)} == {"counts"}
    assert seen.counts.shape == (BINS,)
