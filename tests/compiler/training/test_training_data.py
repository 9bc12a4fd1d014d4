import numpy as np
import pytest

from graphpress.errors import DataError, UsageError
from graphpress.training.data import ReadOptions, Stored, Streamed, open_data


def feeds_of(*sizes, start=0, shape=(2,)):
    """Feeds of so many samples, each sample full of its own number."""
    feeds, at = [], start
    for size in sizes:
        numbers = np.arange(at, at + size, dtype=np.float32)
        array = np.broadcast_to(numbers.reshape(-1, *[1] * len(shape)), (size, *shape)).copy()
        feeds.append(({"x": array}, np.arange(at, at + size), size))
        at += size
    return feeds


def numbers(examples):
    return [int(row.flat[0]) for example in examples for row in example.feed["x"]]


@pytest.fixture(params=["stored", "streamed"])
def most_bytes(request):
    return 1 << 30 if request.param == "stored" else 200


def test_every_sample_is_trained_on_or_held_out(most_bytes):
    data = open_data(lambda: feeds_of(20, 20), ReadOptions(batch_size=6, holdout=0.1, most_bytes=most_bytes))
    assert isinstance(data, Stored if most_bytes > 1000 else Streamed)
    held = set(numbers(data.held_out()))
    assert len(held) == 4
    epoch = [number for step in range(6) for number in numbers(data.batch(step))]
    assert len(epoch) == 36
    assert set(epoch) == set(range(40)) - held
    assert epoch != sorted(epoch)


def test_a_batch_is_a_function_of_its_step(most_bytes):
    reading = ReadOptions(batch_size=4, most_bytes=most_bytes, seed=3)
    first, second = (open_data(lambda: feeds_of(30), reading) for _ in range(2))
    forward = [numbers(first.batch(step)) for step in range(20)]
    assert [numbers(second.batch(step)) for step in (17, 3, 4, 0)] == [forward[step] for step in (17, 3, 4, 0)]


def test_seeds_give_other_orders(most_bytes):
    orders = [
        numbers(open_data(lambda: feeds_of(30), ReadOptions(batch_size=8, seed=seed, most_bytes=most_bytes)).batch(0))
        for seed in (0, 1)
    ]
    assert orders[0] != orders[1]


def test_labels_stay_with_their_samples(most_bytes):
    data = open_data(lambda: feeds_of(9, 5), ReadOptions(batch_size=4, most_bytes=most_bytes))
    for step in range(6):
        for example in data.batch(step):
            np.testing.assert_array_equal(example.labels, example.feed["x"][:, 0].astype(int))


def test_a_fixed_batch_size_is_kept_and_filled(most_bytes):
    data = open_data(lambda: feeds_of(11), ReadOptions(batch_size=5, call_size=2, holdout=0.3, most_bytes=most_bytes))
    for examples in (data.batch(0), list(data.held_out())):
        assert {example.feed["x"].shape for example in examples} == {(2, 2)}
    assert sum(example.count for example in data.batch(0)) == 6


def test_shapes_are_not_mixed(most_bytes):
    def feeds():
        return feeds_of(5) + feeds_of(7, start=5, shape=(3,))

    data = open_data(feeds, ReadOptions(batch_size=4, holdout=0.0, most_bytes=most_bytes))
    seen = [number for step in range(4) for number in numbers(data.batch(step))]
    assert sorted(seen) == list(range(12))


def test_a_feed_without_a_batch_axis_is_a_sample(most_bytes):
    whole = [({"x": np.full((3, 2), at, np.float32), "n": np.array(at, np.float32)}, None, 0) for at in range(30)]
    data = open_data(lambda: whole, ReadOptions(batch_size=4, holdout=0.1, most_bytes=most_bytes))
    examples = data.batch(0)
    assert [example.feed["x"].shape for example in examples] == [(3, 2)] * 4
    assert [float(example.feed["n"]) for example in examples] == [example.feed["x"][0, 0] for example in examples]
    assert all(isinstance(array, np.ndarray) for example in examples for array in example.feed.values())
    assert data.holds_out


def test_with_very_few_samples_all_are_measured():
    data = open_data(lambda: feeds_of(3), ReadOptions(batch_size=8))
    assert sorted(numbers(data.held_out())) == sorted(numbers(data.batch(0))) == [0, 1, 2]
    assert not data.holds_out


def test_samples_in_order():
    data = open_data(lambda: feeds_of(4, 3), ReadOptions(batch_size=3))
    examples = list(data.in_order())
    assert numbers(examples) == list(range(7))
    assert [row for example in examples for row in example.rows] == list(range(7))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_are_named(bad):
    feeds = feeds_of(4, 4)
    feeds[1][0]["x"][2] = bad
    with pytest.raises(DataError, match="infinite or undefined") as raised:
        open_data(lambda: feeds, ReadOptions(batch_size=2))
    assert "samples from 4" in str(raised.value)


def test_no_samples():
    with pytest.raises(DataError, match="no samples"):
        open_data(list, ReadOptions(batch_size=2))


def test_text():
    with pytest.raises(UsageError, match="text"):
        open_data(lambda: [({"x": np.array(["a"], object)}, None, 1)], ReadOptions(batch_size=2))
