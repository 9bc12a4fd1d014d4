"""The original is asked once for each sample, whatever the number of candidates; its answers take bounded memory."""

import numpy as np
import pytest

import graphpress.evaluation.reference as module
from graphpress.evaluation import RememberedReference


class Counting:
    """Answers with the double of what it is given, and counts."""

    can_stand_by = False

    def __init__(self):
        self.calls = 0

    def run(self, feed):
        self.calls += 1
        return {"y": 2 * feed["x"]}

    def stand_by(self):
        self.calls = 0


@pytest.fixture
def session():
    return Counting()


def feed(value, kind=np.float32, count=3):
    return {"x": np.full((count,), value, kind)}


def test_each_feed_is_computed_once(session):
    reference = RememberedReference(session)
    for _ in range(3):
        for value in (1, 2):
            np.testing.assert_array_equal(reference(feed(value))["y"], [2 * value] * 3)
    assert session.calls == 2


@pytest.mark.parametrize("other", [feed(1, np.float64), feed(1, count=4), {"x": np.ones((3, 1), np.float32)}])
def test_what_differs_in_type_or_shape_is_another_feed(session, other):
    reference = RememberedReference(session)
    reference(feed(1))
    assert reference(other)["y"].shape == other["x"].shape
    assert session.calls == 2


def test_a_view_of_the_same_numbers_is_the_same_feed(session):
    reference = RememberedReference(session)
    reference({"x": np.arange(4.0)})
    reference({"x": np.arange(8.0)[::2] / 2})
    assert session.calls == 1


def test_memory_is_bounded(session, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 12)
    reference = RememberedReference(session)
    for value in (1, 2, 1, 2):
        reference(feed(value))
    assert session.calls == 3


def test_objects_are_not_kept(session):
    reference = RememberedReference(session)
    for _ in range(2):
        reference({"x": np.array(["a"], object)})
    assert session.calls == 2


def test_a_large_model_stands_by(session):
    reference = RememberedReference(session)
    reference(feed(1))
    reference.stand_by()
    assert session.calls == 0
    assert not reference.can_stand_by
