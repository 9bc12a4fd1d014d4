"""Positions that a slice takes, and pads of axes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.ops.semantics.slices import padded, sliced

LIMITS = st.integers(-12, 12) | st.sampled_from([-(1 << 63), (1 << 63) - 1])
STEPS = st.integers(-4, 4).filter(bool)


def by_the_standard(start, end, step, size):
    """Slice as ONNX words it."""
    start, end = (bound + size if bound < 0 else bound for bound in (start, end))
    if step > 0:
        return range(min(max(start, 0), size), min(max(end, 0), size), step)
    return range(min(max(start, 0), size - 1), min(max(end, -1), size - 1), step)


@given(LIMITS, LIMITS, STEPS, st.integers(1, 9))
def test_a_slice_takes_what_the_standard_says(start, end, step, size):
    assert [*range(size)[sliced(start, end, step, size)]] == [*by_the_standard(start, end, step, size)]


@given(LIMITS, LIMITS, STEPS)
def test_nothing_is_taken_of_an_empty_axis(start, end, step):
    assert not range(0)[sliced(start, end, step, 0)]


def test_a_slice_indexes_arrays():
    np.testing.assert_array_equal(np.arange(5)[sliced(-1, -100, -2, 5)], [4, 2, 0])


def test_pads_belong_to_the_axes_that_are_named():
    assert padded([1, 2, 3, 4], None, 2) == {0: (1, 3), 1: (2, 4)}
    assert padded([1, 2, 3, 4], [-1, 0], 3) == {2: (1, 3), 0: (2, 4)}


def test_pads_are_two_an_axis():
    with pytest.raises(ValueError, match="zip"):
        padded([1, 2, 3], [0], 2)
