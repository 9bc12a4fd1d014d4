"""Golden samples: which are kept, and the bounds that follow from them."""

import io
from dataclasses import asdict

import numpy as np
import pytest

from graphpress.backend import ShapeRange
from graphpress.backends.tensorrt.bundle.golden import MAX_BYTES, Golden, expected_outputs, few, portions
from graphpress.backends.tensorrt.device import verify

RANDOM = np.random.default_rng(0)


def sample(delivered, original, rows=1):
    return Golden({"x": np.zeros((rows, 3), np.float32)}, delivered, original)


def scores(moved: float, classes: int = 10):
    one = RANDOM.normal(size=(1, classes)).astype(np.float32)
    return sample(
        {"y": one}, {"y": one + np.float32(moved) * np.linalg.norm(one) / np.sqrt(classes).astype(np.float32)}
    )


@pytest.mark.parametrize(
    ("moved", "types", "bound"),
    [
        (0.0, [], 0.005),
        (0.0, ["float16"], 0.01),
        (0.0, ["int8"], 0.01),
        (0.0, ["bfloat16"], 0.05),
        (0.1, ["int8"], 0.2),
        (0.4, ["int8"], 0.5),
    ],
)
def test_the_bound_follows_what_was_moved(moved, types, bound):
    expected = expected_outputs([scores(moved)], types)[0]
    assert expected.moved == pytest.approx(moved, abs=1e-6)
    assert expected.bound == pytest.approx(bound, rel=1e-5)
    assert expected.measure == "relative"


def test_the_accelerator_is_given_more_room():
    assert expected_outputs([scores(0.0)], ["int8"], dla=True)[0].bound == 0.1


def test_integers_are_compared_by_the_share_that_differs():
    one, other = np.arange(10)[None], np.arange(10)[None] * (np.arange(10) != 3)
    expected = expected_outputs([sample({"y": one}, {"y": other})], [])[0]
    assert (expected.measure, expected.moved, expected.bound) == ("share", 0.1, 0.2)


def test_classes_are_scores_of_several():
    assert expected_outputs([scores(0.0)], [])[0].classes
    assert not expected_outputs([sample({"y": np.zeros((1, 4, 4), np.float32)}, {"y": np.zeros((1, 4, 4))})], [])[
        0
    ].classes
    assert not expected_outputs([sample({"y": np.array([3])}, {"y": np.array([3])})], [])[0].classes


def test_text_is_not_compared():
    words = np.array([["a"]], dtype=object)
    assert expected_outputs([sample({"y": words}, {"y": words})], []) == []


def test_zero_and_infinite_outputs_have_a_bound():
    zero, infinite = np.zeros((1, 2), np.float32), np.array([[np.inf, 1.0]], np.float32)
    expected = expected_outputs([sample({"a": zero, "b": infinite}, {"a": zero, "b": infinite})], [])
    assert [output.bound for output in expected] == [0.005, 0.005]


def test_where_compression_moves_the_size_of_an_output_nothing_is_expected_of_it():
    one, other = np.ones((3, 4), np.float32), np.ones((2, 4), np.float32)
    expected = expected_outputs([sample({"y": one}, {"y": other})], [])[0]
    assert (expected.measure, expected.moved) == ("none", 0.0)
    item = verify.compare(asdict(expected), [{"delivered": {"y": one}}], [{"y": np.ones((4, 4))}])
    assert item.verdict == "unknown"


def test_few_samples_stay_small():
    large = Golden({"x": np.zeros(MAX_BYTES * 3 // 8, np.uint8)}, {}, {})
    assert len(few([large] * 4)) == 2
    assert len(few([Golden({"x": np.zeros(2 * MAX_BYTES, np.uint8)}, {}, {})] * 3)) == 1
    assert len(few([sample({}, {})] * 9)) == 4


def test_the_file_holds_arrays_by_their_number():
    text = sample(
        {"a/b": np.ones(2), "half": np.ones(2, np.float16)}, {"a/b": np.zeros(2), "half": np.zeros(2, np.float16)}
    )
    with np.load(io.BytesIO(text.packed()), allow_pickle=False) as file:
        assert set(file) == {"input.0", "delivered.0", "delivered.1", "original.0", "original.1"}
        assert file["delivered.1"].dtype == np.float16


def test_a_feed_is_cut_into_the_optimum_batch():
    profile = {"x": ShapeRange((1, 3), (2, 3), (8, 3)), "y": ShapeRange((1,), (2,), (8,))}
    feed = {"x": np.arange(15).reshape(5, 3), "y": np.arange(5)}
    found = portions(feed, profile)
    assert [len(one["x"]) for one in found] == [2, 2]
    np.testing.assert_array_equal(found[1]["y"], [2, 3])


@pytest.mark.parametrize(
    "feed",
    [
        {"x": np.zeros((5, 3)), "fixed": np.zeros((5, 3))},
        {"x": np.zeros((1, 3))},
        {"x": np.zeros((4, 3)), "y": np.zeros(3)},
    ],
)
def test_what_cannot_be_cut_stays_whole(feed):
    profile = {"x": ShapeRange((1, 3), (2, 3), (8, 3)), "y": ShapeRange((1,), (2,), (8,))}
    assert portions(feed, profile) == [feed]
