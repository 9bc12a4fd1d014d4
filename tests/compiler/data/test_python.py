"""Data given in Python: arrays, feeds, loaders, readers, probes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.data import Dataset, load_dataset, synthetic_samples
from graphpress.data import feeds as feeds_module
from graphpress.errors import DataError, UsageError
from graphpress.runtime import InputSpec

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
ONE = [InputSpec("x", F32, ("N", 4))]
TWO = [InputSpec("ids", I64, ("N", "T")), InputSpec("mask", F32, ("N", "T"))]
X = np.arange(40.0).reshape(10, 4)


class Reader:
    """A calibration data reader as ONNX Runtime has it."""

    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


class Loader:
    """A loader that can be iterated many times."""

    def __init__(self, shuffle=False):
        self.shuffle, self.passes = shuffle, 0

    def __iter__(self):
        self.passes += 1
        order = np.roll(np.arange(10), self.passes) if self.shuffle else np.arange(10)
        for start in (0, 4, 8):
            rows = order[start : start + 4]
            yield [X[rows], rows]


def read(samples, name="x"):
    return np.concatenate([batch.feed[name][: batch.count] for batch in samples.counted_batches()])


@pytest.mark.parametrize(
    "spec",
    [
        X,
        {"x": X},
        {"x": X, "labels": np.arange(10)},
        (X, np.arange(10)),
        [{"x": X[:7]}, {"x": X[7:]}],
        [X[:7], X[7:]],
        [{"x": X[:7], "labels": np.arange(7)}, {"x": X[7:], "labels": np.arange(3)}],
        ({"x": row} for row in X),
        Reader([{"x": X[:5]}, {"x": X[5:]}]),
        Loader(),
        {"evaluation": {"x": X}, "calibration": Loader()},
    ],
    ids=[
        "array",
        "arrays",
        "labeled",
        "pair",
        "feeds",
        "bare",
        "labeled feeds",
        "generator",
        "reader",
        "loader",
        "sections",
    ],
)
def test_every_form_reads_the_same_again_and_again(spec):
    dataset = load_dataset(spec, ONE)
    for samples in (dataset.evaluation, dataset.evaluation, dataset.calibration):
        np.testing.assert_array_equal(read(samples), X.astype(np.float32))
        assert samples.count == 10
    assert dataset.evaluation.fingerprint() == dataset.evaluation.fingerprint()


def test_labels_of_pairs():
    assert load_dataset(Loader(), ONE).evaluation.labels.tolist() == list(range(10))
    assert load_dataset((X, np.arange(10)), ONE).evaluation.labels.tolist() == list(range(10))


def test_no_data_and_a_dataset():
    assert load_dataset(None, ONE) == Dataset()
    dataset = load_dataset(X, ONE)
    assert load_dataset(dataset, ONE) is dataset
    assert load_dataset(dataset, ONE, limit=3).evaluation.count == 3


def test_a_limit_keeps_whole_feeds():
    samples = load_dataset(Loader(), ONE, limit=4).evaluation
    assert samples.count == 6 or samples.count == 8
    assert samples.labels.size == samples.count == len(read(samples))


@given(st.integers(1, 7), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_feeds_are_cut_to_a_fixed_batch(size, lengths):
    total = sum(lengths)
    rows = np.arange(total, dtype=np.float32)[:, None]
    pairs = [(part, part[:, 0]) for part in np.split(rows, np.cumsum(lengths)[:-1])]
    samples = load_dataset(pairs, [InputSpec("x", F32, (size, 1))]).evaluation
    batches = list(samples.counted_batches())
    assert all(batch.feed["x"].shape == (size, 1) for batch in batches)
    assert np.concatenate([batch.feed["x"][: batch.count] for batch in batches])[:, 0].tolist() == list(range(total))
    assert np.concatenate([batch.labels for batch in batches]).tolist() == list(range(total))


def test_inputs_without_a_common_batch_axis():
    inputs = [InputSpec("state", F32, (2, None, 3)), InputSpec("x", F32, (None, 4)), InputSpec("rate", I64, ())]
    feeds = [{"state": np.zeros((2, 1, 3)), "x": X[:1], "rate": np.array(16)}] * 3
    samples = load_dataset(feeds, inputs).evaluation
    assert samples.count == 3
    assert next(iter(samples))["state"].shape == (2, 1, 3)
    arrays = {"state": np.zeros((3, 2, 1, 3)), "x": X[:3], "rate": np.array([8, 16, 16])}
    feed = next(iter(load_dataset(arrays, inputs).evaluation))
    assert [feed[name].shape for name in ("state", "x", "rate")] == [(2, 1, 3), (1, 4), ()]


def test_an_input_of_unknown_rank_takes_any_sample():
    inputs = [InputSpec("x", F32, None)]
    assert [feed["x"].shape for feed in load_dataset(X, inputs).evaluation] == [(10, 4)]
    assert [feed["x"].shape for feed in load_dataset([X[:7], X[7:]], inputs).evaluation] == [(7, 4), (3, 4)]
    assert next(iter(synthetic_samples(inputs, 1, input_shapes={"x": (2, 5)})))["x"].shape == (2, 5)
    assert next(iter(synthetic_samples(inputs, 1)))["x"].shape == ()


def test_a_shuffling_loader_is_found_out():
    samples = load_dataset(Loader(shuffle=True), ONE).evaluation
    with pytest.raises(DataError, match="shuffling"):
        list(samples)


def test_a_one_shot_source_has_a_bound(monkeypatch):
    monkeypatch.setattr(feeds_module, "MATERIALIZE_BYTES", 100)
    with pytest.raises(DataError, match="only once"):
        load_dataset(({"x": row} for row in X), ONE)


@pytest.mark.parametrize(
    ("spec", "inputs", "reason"),
    [
        ([], ONE, "no samples"),
        ({"x": X[:0]}, ONE, "no samples"),
        ([{"x": X[:0]}], ONE, "empty feed"),
        ([{"y": X}], ONE, "no input 'y'"),
        ({"x": X, "label": np.arange(10)}, ONE, "did you mean 'labels'"),
        ([{"x": X, "label": np.arange(10)}], ONE, "did you mean 'labels'"),
        ([{"ids": np.ones((1, 2), int)}], TWO, "lacks input 'mask'"),
        ([X], TWO, "not a mapping"),
        (X, TWO, "one array cannot feed 2 inputs"),
        ({"ids": np.ones((2, 3), int)}, TWO, "nothing feeds input 'mask'"),
        ({"ids": np.ones((2, 3), int), "mask": np.ones((3, 3))}, TWO, "differ in length"),
        ([{"x": X[:, :3]}], ONE, "does not fit"),
        ([{"x": np.array([["a"] * 4])}], ONE, "holds text"),
        ([{"ids": X[:1] + 0.5, "mask": X[:1]}], TWO, "unchanged"),
        ([(X, np.arange(3))], ONE, "3 labels for 10 samples"),
        ([(X, np.arange(10)), X], ONE, "some have none"),
        ({"x": [[1, 2], [3]]}, ONE, "not an array"),
        (7, ONE, "int is no data"),
        (np.float32(3), ONE, "single value"),
    ],
)
def test_bad_data(spec, inputs, reason):
    with pytest.raises(DataError, match=reason.replace("(", r"\(")):
        load_dataset(spec, inputs)


def test_a_limit_of_nothing():
    with pytest.raises(DataError, match="limit"):
        load_dataset(X, ONE, limit=0)


PROBED = [
    InputSpec("image", F32, ("B", 3, None, "W")),
    InputSpec("half", np.dtype(np.float16), ("B", "W")),
    InputSpec("ids", I64, ("B", "T")),
    InputSpec("flag", np.dtype(bool), ()),
    InputSpec("text", np.dtype(object), ("B",)),
]


def test_probes_are_seeded_and_share_symbols():
    samples = synthetic_samples(PROBED, 3, seed=5, input_shapes={"image": (2, 3, 6, 16)})
    feeds = list(samples)
    assert {name: array.shape for name, array in feeds[0].items()} == {
        "image": (2, 3, 6, 16),
        "half": (2, 16),
        "ids": (2, 128),
        "flag": (),
        "text": (2,),
    }
    assert all(feeds[0][item.name].dtype == item.dtype for item in PROBED)
    assert set(feeds[0]["ids"].ravel().tolist()) <= {0, 1}
    assert isinstance(feeds[0]["text"][0], str)
    again = list(synthetic_samples(PROBED, 3, seed=5, input_shapes={"image": (2, 3, 6, 16)}))
    np.testing.assert_array_equal(feeds[2]["image"], again[2]["image"])
    assert not np.array_equal(feeds[0]["image"], feeds[1]["image"])
    other = synthetic_samples(PROBED, 3, seed=6, input_shapes={"image": (2, 3, 6, 16)})
    assert other.fingerprint() != samples.fingerprint()
    assert samples.spread(2).count == 2


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"imag": (1, 3, 4, 4)}, "did you mean 'image'"),
        ({"image": (1, 4, 4, 4)}, "contradicts"),
        ({"image": (1, 3, 4, 4), "half": (1, 5)}, "both 4 and 5"),
    ],
)
def test_shapes_that_cannot_be(shapes, reason):
    with pytest.raises(UsageError, match=reason):
        synthetic_samples(PROBED, 1, input_shapes=shapes)
