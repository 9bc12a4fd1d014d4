"""Sums over the slices of units, against loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphpress.coupling import Place
from graphpress.passes.prune.criteria._slices import unit_rows, unit_share


@st.composite
def placed(draw):
    """An array, an axis of it, and units along that axis with some positions of none."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    axis, size = draw(st.integers(0, len(shape) - 1)), draw(st.integers(1, 4))
    units = draw(st.lists(st.integers(-1, size - 1), min_size=shape[axis], max_size=shape[axis]))
    array = np.random.default_rng(draw(st.integers(0, 9))).normal(size=shape).astype(np.float32)
    return array, Place(None, axis, np.array(units, np.int64)), size


@given(placed())
def test_a_share_is_the_sum_over_the_units_slice(case):
    array, place, size = case
    share = unit_share(array, place, size)
    for unit in range(size):
        slices = np.take(array, np.flatnonzero(place.units == unit), place.axis)
        assert share.elements[unit] == slices.size
        np.testing.assert_allclose(share.scores[unit], slices.sum(dtype=np.float64), rtol=1e-5, atol=1e-6)


@given(placed())
def test_a_row_holds_the_units_numbers(case):
    array, place, size = case
    rows = unit_rows(array, place, size)
    assert rows.shape[0] == size
    for unit in range(size):
        slices = np.take(array, np.flatnonzero(place.units == unit), place.axis)
        wanted = np.moveaxis(slices, place.axis, 0).reshape(-1)
        np.testing.assert_array_equal(rows[unit, : wanted.size], wanted)
        assert not rows[unit, wanted.size :].any()
