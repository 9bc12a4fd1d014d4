"""The weights of a model that is delivered as it is keep the names of their files, which take no other file's place."""

import os

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import graphpress
from graphpress.errors import ModelError
from graphpress.runtime import Session

FEED = {"x": np.ones((1, 16), np.float32)}
TAKEN = ["report.json", "report.html", "manifest.json", "manifest.json/data", "model.onnx"]
ON_DEVICES = ["verify.py", "engine.py", "build.sh", "README.md", "expected.json", "golden/sample-0.npz", "built.json"]


@pytest.fixture
def network(tmp_path, monkeypatch):
    """Makes a model that nothing makes better, whose weights lie in a file of this name."""
    monkeypatch.chdir(tmp_path)

    def make(name):
        weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32), "w")
        ports = [helper.make_tensor_value_info(port, onnx.TensorProto.FLOAT, (1, 16)) for port in "xy"]
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weight])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        onnx.save(model, "net.onnx", save_as_external_data=True, location=name, size_threshold=0)
        return tmp_path / "net.onnx"

    return make


@pytest.mark.parametrize(
    ("target", "name"), [*(("cpu", name) for name in TAKEN), *(("jetson", name) for name in ON_DEVICES)]
)
def test_a_name_that_is_taken_is_refused(network, tmp_path, target, name):
    with pytest.raises(ModelError, match="a file of the result is called") as raised:
        graphpress.optimize(network(name), target=target, passes="cleanup", output="out")
    assert name in raised.value.what
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("target", "name"), [("cpu", "verify.py"), ("cpu", "a/report.json"), ("jetson", "numpy.py")])
def test_any_other_is_kept(network, tmp_path, target, name):
    path = network(name)
    result = graphpress.optimize(path, target=target, passes="cleanup", output="out")
    assert result.status == "kept_original"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / name).read_bytes()
    delivered, original = (Session(file).run(FEED)["y"] for file in (tmp_path / "out" / "model.onnx", path))
    np.testing.assert_array_equal(delivered, original)
