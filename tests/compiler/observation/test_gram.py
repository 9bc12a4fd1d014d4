"""Gram matrices against numpy in double precision on everything at once."""

import numpy as np
import pytest

from graphpress.analysis.linear import linear_op_of
from graphpress.analysis.linear.rows import rows_of
from graphpress.ir import label
from graphpress.models import build
from graphpress.observation import GramObserver, Moments, Observation, gram, input_moments, second_moments
from graphpress.runtime import Session

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def network():
    return build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)


@pytest.fixture(scope="module")
def linear_ops(network):
    return [found for node in network.graph if (found := linear_op_of(node)) is not None]


@pytest.fixture(scope="module")
def feeds():
    return [{"input": RANDOM.normal(size=(5, 3, 8, 8)).astype(np.float32)} for _ in range(3)]


def moments_of(x, y=None, pieces=3):
    seen = Moments()
    ys = [None] * pieces if y is None else np.array_split(y, pieces, axis=1)
    for part, target in zip(np.array_split(x, pieces, axis=1), ys, strict=True):
        seen.add(part, target)
    return seen


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0.0, 300.0])
def test_moments_are_numpys(blocks, dtype, mean):
    x = (RANDOM.normal(size=(blocks, 10_000, 6)) + mean).astype(dtype)
    y = (x[..., :2] * 0.5 + RANDOM.normal(size=(blocks, 10_000, 2)) - mean).astype(dtype)
    seen = moments_of(x, y)
    for block in range(blocks):
        wide, targets = x[block].astype(np.float64), y[block].astype(np.float64)
        np.testing.assert_allclose(seen.gram[block], wide.T @ wide / len(wide), rtol=1e-6, atol=1e-5)
        cross = seen.cross_covariance[block] + np.outer(seen.mean[block], seen.target_mean[block])
        np.testing.assert_allclose(cross, wide.T @ targets / len(wide), rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(seen.covariance[block], np.cov(wide.T, bias=True), atol=1e-4)
        np.testing.assert_allclose(
            seen.cross_covariance[block], np.cov(wide.T, targets.T, bias=True)[:6, 6:], rtol=1e-4, atol=1e-4
        )
        np.testing.assert_allclose(seen.target_variance[block], targets.var(axis=0), rtol=1e-4)
        np.testing.assert_allclose(seen.mean[block], wide.mean(axis=0), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(seen.target_mean[block], targets.mean(axis=0), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(seen.squares[block], (wide**2).mean(axis=0), rtol=1e-5)


def test_the_diagonal_alone():
    x = RANDOM.normal(size=(2, 500, 6)).astype(np.float32)
    alone = Moments(full=False)
    alone.add(x)
    np.testing.assert_allclose(alone.squares, moments_of(x).squares, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_shows(bad):
    x = RANDOM.normal(size=(1, 10, 2)).astype(np.float32)
    assert moments_of(x).is_finite
    x[0, 9, 0] = bad
    assert not moments_of(x).is_finite


def test_half_precision_is_widened():
    x = RANDOM.normal(size=(1, 9000, 2)).astype(np.float16)
    np.testing.assert_allclose(moments_of(x).squares[0], (x[0].astype(float) ** 2).mean(axis=0), rtol=1e-4)


def test_every_linear_op_of_a_network(network, linear_ops, feeds):
    found = input_moments(network, linear_ops, feeds, Observation(positions=None))
    assert set(found) == {label(one.result) for one in linear_ops}
    inner = [label(one.data) for one in linear_ops if not one.data.is_graph_input()]
    session = Session(network, extra_outputs=inner)
    whole = {"input": np.concatenate([feed["input"] for feed in feeds])}
    values = {**whole, **session.run(whole)}
    for one in linear_ops:
        rows = rows_of(one, values[label(one.data)]).astype(np.float64)
        expected = rows.transpose(0, 2, 1) @ rows / rows.shape[1]
        moments = found[label(one.result)]
        assert moments.count == rows.shape[1]
        np.testing.assert_allclose(moments.gram, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_allclose(
            second_moments(network, [one], feeds, Observation(positions=None))[label(one.result)],
            np.einsum("bff->bf", expected),
            rtol=1e-3,
            atol=1e-6,
        )


def test_a_small_budget_only_reads_the_data_more_often(network, linear_ops, feeds, monkeypatch):
    at_once = input_moments(network, linear_ops, feeds)
    monkeypatch.setattr(gram, "GRAM_BUDGET", 1)
    for name, moments in input_moments(network, linear_ops, feeds).items():
        np.testing.assert_array_equal(moments.gram, at_once[name].gram)


def test_sampled_positions_come_close(linear_ops):
    inner = linear_ops[1]
    data = RANDOM.normal(size=(200, inner.weight_shape[1], 8, 8)).astype(np.float32)
    some, whole = GramObserver(inner, 16), GramObserver(inner, None)
    for piece in np.array_split(data, 7):
        some.update(piece)
        whole.update(piece)
    assert some.moments.count == 200 * 16
    assert whole.moments.count == 200 * 64
    assert np.abs(some.moments.gram - whole.moments.gram).max() < 0.15


def test_memory_does_not_depend_on_how_much_was_seen(linear_ops):
    watcher = GramObserver(linear_ops[1])

    def size():
        return sum(array.nbytes for array in vars(watcher.moments).values() if isinstance(array, np.ndarray))

    watcher.update(RANDOM.normal(size=(2, linear_ops[1].weight_shape[1], 8, 8)).astype(np.float32))
    before = size()
    watcher.update(RANDOM.normal(size=(50, linear_ops[1].weight_shape[1], 8, 8)).astype(np.float32))
    assert size() == before
