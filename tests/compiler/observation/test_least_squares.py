"""Least squares from moments against numpy's own on all rows at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.analysis.linear import LinearParameters
from graphpress.observation import Moments
from graphpress.observation.least_squares import Summary, cholesky_solve, fit, masked_solve


def problem(rows=400, features=6, outputs=3, blocks=1, seed=0, mean=2.0, noise=0.1):
    random = np.random.default_rng(seed)
    x = random.normal(size=(blocks, rows, features)) + mean
    y = x @ random.normal(size=(blocks, features, outputs)) + 1.0 + noise * random.normal(size=(blocks, rows, outputs))
    return x, y


def summary(x, y):
    seen = Moments()
    seen.add(x, y)
    return Summary.of(seen)


def nothing(x, y):
    return LinearParameters(np.zeros((len(x), x.shape[2], y.shape[2])), np.zeros((len(x), y.shape[2])))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 3), st.integers(1, 8), st.integers(1, 4))
def test_without_a_ridge_it_is_numpys_solution(seed, blocks, features, outputs):
    x, y = problem(features=features, outputs=outputs, blocks=blocks, seed=seed)
    found = fit(summary(x, y), nothing(x, y), 0.0)
    for block in range(blocks):
        expected, *_ = np.linalg.lstsq(np.c_[x[block], np.ones(len(x[block]))], y[block], rcond=None)
        np.testing.assert_allclose(found.matrix[block], expected[:-1], atol=1e-6)
        np.testing.assert_allclose(found.bias[block], expected[-1], atol=1e-5)


def test_a_bias_that_stays_leaves_the_mean_to_the_weights():
    x, y = problem()
    present = LinearParameters(nothing(x, y).matrix, np.full((1, 3), 0.5))
    found = fit(summary(x, y), present, 0.0, moves_bias=False)
    expected, *_ = np.linalg.lstsq(x[0], y[0] - 0.5, rcond=None)
    np.testing.assert_allclose(found.matrix[0], expected, atol=1e-6)
    np.testing.assert_array_equal(found.bias, present.bias)


def test_the_ridge_pulls_towards_the_present_weights():
    x, y = problem()
    present = LinearParameters(np.random.default_rng(1).normal(size=(1, 6, 3)), np.zeros((1, 3)))
    seen = summary(x, y)
    exact = fit(seen, present, 0.0)
    far = [float(np.abs(fit(seen, present, ridge).matrix - present.matrix).sum()) for ridge in (0.01, 1.0, 100.0, 1e8)]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 1e-4
    np.testing.assert_allclose(fit(seen, present, 1e-9).matrix, exact.matrix, atol=1e-6)


def test_what_the_data_does_not_show_stays_as_it_is():
    x, y = problem()
    x = np.concatenate([x, np.zeros((1, 400, 1)), x[..., :1]], axis=2)
    present = LinearParameters(np.random.default_rng(1).normal(size=(1, 8, 3)), np.zeros((1, 3)))
    found = fit(summary(x, y), present, 1e-6)
    np.testing.assert_allclose(found.matrix[0, 6], present.matrix[0, 6])
    assert np.isfinite(found.matrix).all()
    assert np.abs(found.matrix).max() < 10


def test_a_singular_system_is_no_solution():
    assert cholesky_solve(-np.eye(3)[None], np.ones((1, 3, 1))) is None


@pytest.mark.parametrize("size", [1, 5, 128, 300])
def test_cholesky_in_blocks(size):
    random = np.random.default_rng(0)
    root = random.normal(size=(2, size, size + 5))
    system, right = root @ root.transpose(0, 2, 1) + np.eye(size), random.normal(size=(2, size, 4))
    np.testing.assert_allclose(cholesky_solve(system, right), np.linalg.solve(system, right), rtol=1e-7, atol=1e-9)


def test_a_mask_solves_each_column_on_its_own_support():
    x, y = problem(features=12, outputs=4)
    mask = np.random.default_rng(2).random((1, 12, 4)) < 0.5
    found = fit(summary(x, y), nothing(x, y), 0.0, mask=mask)
    assert not found.matrix[~mask].any()
    for column in range(4):
        support = mask[0, :, column]
        expected, *_ = np.linalg.lstsq(np.c_[x[0][:, support], np.ones(400)], y[0][:, column], rcond=None)
        np.testing.assert_allclose(found.matrix[0, support, column], expected[:-1], atol=1e-5)


def test_masked_solution_of_nothing_is_nothing():
    assert not masked_solve(np.eye(3)[None], np.zeros((1, 3, 2)), np.ones((1, 3, 2), bool)).any()


def test_the_error_is_that_of_the_rows():
    x, y = problem(blocks=2)
    affine = LinearParameters(np.random.default_rng(1).normal(size=(2, 6, 3)), np.ones((2, 3)))
    errors = np.square(y - x @ affine.matrix - 1.0).mean(axis=1)
    np.testing.assert_allclose(summary(x, y).error(affine), errors, rtol=1e-6)


def test_two_summaries_are_that_of_all_rows():
    x, y = problem(mean=5.0)
    parts = summary(x[:, :100], y[:, :100]).with_rows_of(summary(x[:, 100:] + 1, y[:, 100:] - 1))
    whole = summary(np.concatenate([x[:, :100], x[:, 100:] + 1], 1), np.concatenate([y[:, :100], y[:, 100:] - 1], 1))
    for name in ("count", "mean", "covariance", "target", "cross", "variance"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-6, atol=1e-6)
