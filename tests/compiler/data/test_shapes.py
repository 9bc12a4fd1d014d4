"""Shapes of all that the data feeds, and a few samples that stand for all."""

import numpy as np
import pytest
from PIL import Image

from graphpress.data import load_dataset, shapes_of, synthetic_samples, typical
from graphpress.data.sources import ImageSource
from graphpress.runtime import InputSpec

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
TOKENS = [InputSpec("ids", I64, ("N", "T"))]
PICTURES = [InputSpec("x", F32, ("N", 3, "H", "W"))]


def tokens(*lengths):
    return load_dataset([{"ids": np.ones((1, length), np.int64)} for length in lengths], TOKENS).evaluation


@pytest.fixture
def pictures(tmp_path):
    """A folder with images of three sizes."""
    for at, size in enumerate([(8, 6), (8, 6), (20, 10), (4, 4)]):
        Image.new("RGB", size).save(tmp_path / f"{at}.png")
    return tmp_path


def test_feeds_have_the_shapes_in_which_they_come():
    assert tokens(5, 9, 5).shapes() == [{"ids": (1, 5)}, {"ids": (1, 9)}, {"ids": (1, 5)}]


def test_samples_have_the_shapes_in_which_they_are_fed_alone():
    data = load_dataset({"a": np.ones((6, 4)), "b": np.ones((6, 2, 3))}, [
        InputSpec("a", F32, ("N", 4)), InputSpec("b", F32, ("N", "H", "W")),
    ]).evaluation  # fmt: skip
    assert data.shapes() == [{"a": (1, 4), "b": (1, 2, 3)}] * 6 == [shapes_of(feed) for feed in data.take(range(1))] * 6


def test_images_are_measured_without_being_decoded(pictures, monkeypatch):
    """Only one of each size is, for what its preprocessing makes of it."""
    data = load_dataset(str(pictures), PICTURES).evaluation
    decoded = []
    records = ImageSource.records
    monkeypatch.setattr(ImageSource, "records", lambda self, at: decoded.extend(at) or records(self, at))
    assert [shapes["x"][2:] for shapes in data.shapes()] == [(6, 8), (6, 8), (10, 20), (4, 4)]
    assert len(decoded) == 3


def test_what_a_function_makes_of_each_record_is_asked_of_each(tmp_path):
    (tmp_path / "cut.py").write_text("def cut(row):\n    return row[: int(row[0])]\n")
    np.savez(tmp_path / "d.npz", ids=np.array([[3, 1, 1, 1], [2, 1, 1, 1], [4, 1, 1, 1]]))
    (tmp_path / "data.yaml").write_text("evaluation: {source: d.npz}\npreprocess: {ids: {function: 'cut:cut'}}\n")
    samples = load_dataset(tmp_path / "data.yaml", TOKENS).evaluation
    assert [shapes["ids"] for shapes in samples.shapes()] == [(1, 3), (1, 2), (1, 4)]


def test_typical_samples_are_of_all_sizes():
    lengths = [5 + at % 7 for at in range(50)]
    lengths[33] = 90
    chosen = typical(tokens(*lengths), 4)
    assert chosen.count == 4
    sizes = [feed["ids"].shape[1] for feed in chosen]
    assert min(sizes) == 5
    assert max(sizes) == 90


def test_typical_samples_of_one_size_are_evenly_spaced():
    data = load_dataset({"x": np.arange(40.0).reshape(20, 2)}, [InputSpec("x", F32, ("N", 2))]).evaluation
    assert np.concatenate([feed["x"][:, 0] for feed in typical(data, 4)]).tolist() == [0, 10, 20, 30]
    made_up = synthetic_samples(TOKENS, 6)
    assert typical(made_up, 2).shapes() == [made_up.shapes()[0]] * 2


def test_what_was_taken_can_be_taken_from():
    """Places count within what is there."""
    some = tokens(1, 2, 3, 4, 5, 6).take([1, 3, 5])
    assert [shapes["ids"][1] for shapes in some.shapes()] == [2, 4, 6]
    assert [feed["ids"].shape[1] for feed in some.take([1, 2])] == [4, 6]
    assert [feed["ids"].shape[1] for feed in some.spread(2)] == [2, 4]


def test_a_feed_whose_inputs_differ_in_front_is_one_sample():
    """Steps in time beside lengths of sequences, say."""
    inputs = [InputSpec("x", F32, (None, None, 4)), InputSpec("len", I64, (None,))]
    feeds = [{"x": np.ones((steps, 1, 4)), "len": np.array([steps])} for steps in (3, 5)]
    assert load_dataset(feeds, inputs).evaluation.count == 2
