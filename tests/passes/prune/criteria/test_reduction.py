"""From places to one score a unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphpress.passes.prune.criteria._reduction import Reduction, Share

ONE, TWO = np.array([1.0, 4.0, 2.0]), np.array([3.0, 0.0, 4.0])
SHARES = [Share(ONE, np.full(3, 2)), Share(TWO, np.full(3, 4))]


@pytest.mark.parametrize(
    ("combine", "wanted"),
    [("sum", ONE + TWO), ("mean", (ONE + TWO) / 2), ("max", [3, 4, 4]), ("first", ONE)],
)
def test_combine(combine, wanted):
    np.testing.assert_array_equal(Reduction(combine=combine)(SHARES), wanted)


@pytest.mark.parametrize(
    ("normalize", "wanted"),
    [
        ("none", ONE),
        ("place", ONE / ONE.mean()),
        ("mean", ONE / ONE.mean()),
        ("max", ONE / 4),
        ("l2", ONE / np.sqrt(21)),
        ("size", ONE / 2),
        ("lamp", [1 / 21, 1, 4 / 20]),
    ],
)
def test_normalize(normalize, wanted):
    np.testing.assert_allclose(Reduction(normalize=normalize)(SHARES[:1]), wanted)


def test_size_weighs_every_place_alike():
    np.testing.assert_allclose(Reduction(normalize="size")(SHARES), ONE / 2 + TWO / 4)


def test_divided_place_by_place_a_unit_counts_in_every_layer_that_reads_it():
    stream = Reduction(normalize="place")([Share(10.0**scale * ONE, np.ones(3)) for scale in range(5)])
    inner = Reduction(normalize="place")([Share(ONE, np.ones(3))])
    np.testing.assert_allclose(stream, 5 * inner)
    assert stream.mean() == pytest.approx(5)


def test_a_unit_with_a_dead_end_scores_nothing_whatever_the_other_says():
    writes, reads = (Share(np.array(scores), np.ones(4), factor) for scores, factor in (
        ([0.0, 1.0, 2.0, 0.1], "writes"), ([9.0, 0.0, 1.0, 0.1], "reads"),
    ))  # fmt: skip
    side_by_side = Share(np.array([1.0, 0.0, 0.0, 0.0]), np.ones(4), "writes")
    np.testing.assert_array_equal(Reduction()([writes, reads]) > 0, [False, False, True, True])
    np.testing.assert_array_equal(Reduction()([writes, side_by_side, reads]) > 0, [True, False, True, True])


def test_a_unit_without_a_bias_is_alive():
    weight, bias = Share(np.ones(2), np.ones(2), "writes"), Share(np.array([0.0, 1.0]), np.ones(2))
    np.testing.assert_array_equal(Reduction()([weight, bias]), [1, 2])


finite = arrays(np.float64, st.integers(1, 12), elements=st.just(0.0) | st.floats(1e-6, 1e6))


@given(finite, st.sampled_from(["none", "place", "mean", "max", "l2", "lamp"]))
def test_normalizing_keeps_order_and_zeros(scores, normalize):
    result = Reduction(normalize=normalize)([Share(scores, np.ones(len(scores)))])
    assert np.isfinite(result).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(result[order]) >= -1e-12 * max(result.max(), 1)).all()


@given(finite)
def test_normalized_groups_are_alike_whatever_their_scale(scores):
    share, larger = (Share(scores * factor, np.ones(len(scores))) for factor in (1.0, 1024.0))
    for normalize in ("place", "mean", "max", "l2"):
        np.testing.assert_allclose(
            Reduction(normalize=normalize)([share]), Reduction(normalize=normalize)([larger]), rtol=1e-9, atol=1e-300
        )
