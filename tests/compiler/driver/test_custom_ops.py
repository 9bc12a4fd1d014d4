"""Models with operators of a library: run with it, cleaned up without it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphpress
from graphpress.errors import UsageError
from graphpress.ir import load
from graphpress.runtime import Session
from graphpress.runtime.custom_ops import custom_operators, has_custom_operators

extensions = pytest.importorskip("onnxruntime_extensions", reason="pip install onnxruntime-extensions")
RANDOM = np.random.default_rng(6)


@pytest.fixture
def library():
    return extensions.get_library_path()


@pytest.fixture
def model_file(tmp_path):
    """A product behind an operator of the library, and a node that the clean-up drops."""
    nodes = [
        helper.make_node("Identity", ["x"], ["i"]),
        helper.make_node("Inverse", ["i"], ["v"], domain="ai.onnx.contrib", name="inverse"),
        helper.make_node("MatMul", ["v", "w"], ["y"], name="product"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in "xvy"]
    weight = numpy_helper.from_array(RANDOM.normal(size=(4, 4)).astype(np.float32), "w")
    graph = helper.make_graph(nodes, "g", values[:1], values[2:], [weight], value_info=values[1:2])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.contrib", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def feeds(count=4):
    return [{"x": (np.eye(4) * 3 + RANDOM.normal(size=(4, 4))).astype(np.float32)} for _ in range(count)]


def test_with_the_library_the_model_is_run_quantized_and_judged(model_file, library, tmp_path):
    result = graphpress.optimize(
        model_file, data=feeds(), custom_ops=[library], max_drop=None, allow_worse=True, output=tmp_path / "out"
    )
    assert result.status == "delivered"
    assert {layer.name: layer.asked for layer in result.report.layers} == {"product": "int8"}
    assert not has_custom_operators()
    with custom_operators([library]):
        (answer,), (expected,) = (
            Session(path).run({"x": 3 * np.eye(4, dtype=np.float32)}).values()
            for path in (tmp_path / "out" / "model.onnx", model_file)
        )
    np.testing.assert_allclose(answer, expected, atol=0.1)


def test_without_it_the_model_is_cleaned_up_and_gives_the_same_with_it(model_file, library, tmp_path):
    result = graphpress.optimize(model_file, output=tmp_path / "out")
    assert [node.op_type for node in load(tmp_path / "out" / "model.onnx").graph] == ["Inverse", "MatMul"]
    (warning,) = result.report.warnings
    assert "ai.onnx.contrib::Inverse (inverse)" in warning
    assert "--custom-ops" in warning
    (feed,) = feeds(1)
    with custom_operators([library]):
        (answer,), (expected,) = (
            Session(path).run(feed).values() for path in (tmp_path / "out" / "model.onnx", model_file)
        )
    np.testing.assert_allclose(answer, expected, rtol=1e-5)


def test_a_library_does_not_have_what_another_one_has(model_file, library, tmp_path):
    """What it has is run; what it has not is not."""
    proto = onnx.load(model_file)
    proto.graph.node[2].output[0] = "last"
    proto.graph.node.append(helper.make_node("Swoosh", ["last"], ["y"], domain="acme.ops", name="swoosh"))
    proto.opset_import.append(helper.make_opsetid("acme.ops", 1))
    onnx.save(proto, model_file)
    result = graphpress.optimize(model_file, custom_ops=[library], output=tmp_path / "out")
    assert "nothing here can run acme.ops::Swoosh (swoosh): " in result.report.warnings[0]
    assert "last into swoosh on true numbers" in result.report.warnings[0]


def test_what_is_no_library_is_told(model_file, tmp_path):
    with pytest.raises(UsageError, match="no such library"):
        graphpress.optimize(model_file, custom_ops=[tmp_path / "absent.so"], output=tmp_path / "out")
    with pytest.raises(UsageError, match="cannot load it"):
        graphpress.optimize(model_file, custom_ops=[model_file], output=tmp_path / "out")
