"""Reshaped values in the same memory, against numpy's reshape."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.backends.tvm.kernels.plane import Halo
from graphpress.backends.tvm.lowering.layout import (
    channels_last,
    images_of,
    natural,
    plane_of,
    reshaped,
    reshaped_plane,
    transposed,
    view_of,
)

LANES = 4


def elements(memory: np.ndarray, shape, order, plane) -> np.ndarray:
    """The value that lies in a memory."""
    view = view_of(shape, order, plane)
    steps = [step * memory.itemsize for step in view.steps]
    return np.lib.stride_tricks.as_strided(memory[view.start :], shape, steps)


def laid_out(shape, order, lanes, halo=None):
    """A memory in which all elements differ, and its layout."""
    plane = plane_of(shape, order, lanes, halo)
    return np.arange(images_of(shape, order) * plane.size), plane


@st.composite
def reshapes(draw):
    """A shape, an order, and another shape of as many elements."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=5)))
    left, after = math.prod(shape), []
    while left > 1 and len(after) < 4:
        after.append(draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0])))
        left //= after[-1]
    return shape, tuple(draw(st.permutations(range(len(shape))))), (*after, left)


@given(reshapes(), st.sampled_from([1, LANES]))
def test_a_view_holds_what_a_reshape_gives(case, lanes):
    shape, order, after = case
    memory, plane = laid_out(shape, order, lanes)
    value = elements(memory, shape, order, plane)
    if (result := reshaped(shape, order, plane, after)) is None:
        return
    view = reshaped_plane(plane, after, result)
    np.testing.assert_array_equal(elements(memory, after, result, view), value.reshape(after))


@pytest.mark.parametrize(
    ("before", "order", "after", "expected"),
    [
        ((1, 24, 1, 1), channels_last(4), (1, 24), (0, 1)),
        ((2, 6, 24), natural(3), (12, 24), (0, 1)),
        ((12, 24), natural(2), (2, 6, 24), (0, 1, 2)),
        ((2, 6, 24), natural(3), (2, 6, 4, 6), (0, 1, 2, 3)),
        ((1, 6, 4, 5), channels_last(4), (1, 6, 20), (0, 2, 1)),
        ((1, 6, 4, 5), channels_last(4), (1, 120), None),
        ((1, 6, 4, 5), channels_last(4), (1, 2, 3, 4, 5), (0, 3, 4, 1, 2)),
    ],
)
def test_axes_that_stay_where_they_are(before, order, after, expected):
    assert reshaped(before, order, plane_of(before, order, 1), after) == expected


def test_a_gap_behind_the_channels_is_not_run_over():
    plane = plane_of((2, 6, 24), natural(3), 32)
    assert reshaped((2, 6, 24), natural(3), plane, (2, 144)) is None
    assert reshaped((2, 6, 24), natural(3), plane, (12, 24)) == (0, 1)


def test_a_halo_keeps_rows_and_pixels():
    shape = (1, 8, 4, 4)
    plane = plane_of(shape, channels_last(4), 1, Halo(1, 1, 1, 1))
    assert reshaped(shape, channels_last(4), plane, (1, 8, 16)) is None
    assert reshaped(shape, channels_last(4), plane, (1, 8, 4, 4)) == channels_last(4)


def test_transposing_moves_nothing():
    shape, permutation = (2, 3, 4, 5), (3, 0, 2, 1)
    memory, plane = laid_out(shape, natural(4), LANES)
    value = elements(memory, shape, natural(4), plane)
    order = transposed(natural(4), permutation)
    after = tuple(shape[axis] for axis in permutation)
    np.testing.assert_array_equal(elements(memory, after, order, plane), value.transpose(permutation))
