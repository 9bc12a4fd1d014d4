"""Damage curves and their hulls."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from graphpress.allocation.curves import Curve, lower_hull


def test_scores_add_up_from_the_least():
    curve = Curve.of_scores(np.array([3.0, 1.0, 2.0]))
    np.testing.assert_allclose(curve.at(np.array([3, 2, 1, 0]), 3), [0, 1, 3, 6])


def test_linear_between_points_and_on_behind_the_last():
    curve = Curve(np.array([0.25, 0.5]), np.array([1.0, 3.0]))
    np.testing.assert_allclose(curve.at(np.array([8, 7, 6, 5, 4, 2]), 8), [0, 0.5, 1, 2, 3, 5])


def test_noise_never_makes_more_removal_better():
    curve = Curve(np.array([0.25, 0.5, 0.75]), np.array([2.0, 1.0, 4.0]))
    np.testing.assert_allclose(curve.at(np.array([3, 2, 1]), 4), [2, 2, 4])


@given(arrays.arrays(np.float64, st.integers(2, 30), elements=st.floats(0, 100)))
def test_the_hull_lies_below_and_is_convex(y):
    x = np.arange(len(y), dtype=float)
    hull = lower_hull(x, y)
    assert hull[0] == 0
    assert hull[-1] == len(y) - 1
    assert (np.interp(x, x[hull], y[hull]) <= y + 1e-9).all()
    slopes = np.diff(y[hull]) / np.diff(x[hull])
    assert (np.diff(slopes) > -1e-9).all()
