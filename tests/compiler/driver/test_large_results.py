"""Models with large results: few samples at once, and a session that holds no memory between its uses."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import graphpress
from graphpress.data import load_dataset
from graphpress.runtime import Session

RNG = np.random.default_rng(0)
TEXT = '<ir_version: 8, opset_import: ["": 17]> g (float[N,1,32,32] x) => (float y) { h = Conv(x, w) y = Relu(h) }'
EACH = 4 * 32 * 32 * (1 + 16 + 16)
"""Bytes of all values of one sample."""


@pytest.fixture
def model(tmp_path):
    """A model whose inner values are 16 times as large as its input, and data beside it."""
    proto = onnx.parser.parse_model(TEXT.replace("(float y)", "(float[N,16,32,32] y)"))
    proto.graph.initializer.append(numpy_helper.from_array(RNG.standard_normal((16, 1, 1, 1)).astype(np.float32), "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=RNG.standard_normal((8, 1, 32, 32)).astype(np.float32))
    return tmp_path / "m.onnx"


@pytest.fixture
def batches(monkeypatch):
    """How many samples each call of a session was given."""
    sizes, run = list[int](), Session.run

    def spy(self, feed, **options):
        sizes.append(max(len(array) for array in feed.values()))
        return run(self, feed, **options)

    monkeypatch.setattr(Session, "run", spy)
    return sizes


@pytest.mark.parametrize("most", [1, 3])
def test_so_many_samples_run_at_once_as_fit(model, tmp_path, monkeypatch, batches, most):
    monkeypatch.setattr("graphpress.driver.inputs.BATCH_BYTES", most * EACH)
    data, options = tmp_path / "d.npz", {"max_drop": None, "allow_worse": True, "threads": 1}
    result = graphpress.optimize(model, data=data, recipe="int8", output=tmp_path / "out", **options)
    assert result.status == "delivered"
    assert max(batches) == most


def test_feeds_get_smaller_where_nobody_chose_how_large(model, tmp_path):
    inputs = Session(model).inputs

    def sizes(data):
        return [len(feed["x"]) for feed in data.calibration]

    data = load_dataset(tmp_path / "d.npz", inputs)
    assert (sizes(data), sizes(data.in_batches_of(3))) == ([8], [3, 3, 2])
    assert sizes(load_dataset(tmp_path / "d.npz", inputs, batch=4).in_batches_of(3)) == [4, 4]


def test_a_session_gives_the_memory_of_large_results_back(model):
    session, feed = Session(model), {"x": np.ones((1, 1, 32, 32), np.float32)}
    before = session.run(feed)["y"]
    session.stand_by()
    assert session._session is not None
    session.release_between_uses()
    session.stand_by()
    assert session._session is None
    np.testing.assert_array_equal(session.run(feed)["y"], before)
