"""Constants in int8 that nobody dequantizes: written in the form that the builder takes, or refused before any work."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress import optimize
from graphpress.analysis.cost import model_cost
from graphpress.backends.tensorrt.build import BuildRequest, build
from graphpress.backends.tensorrt.integer_constants import dequantize_constants
from graphpress.backends.tensorrt.legalize import canonical_form, weak_form
from graphpress.backends.tensorrt.lint import unsupported
from graphpress.backends.tensorrt.toolchain import find_toolchain
from graphpress.errors import ModelError
from graphpress.ir import DataType, from_proto, save, verify
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(5)
CONSTANTS = {
    "q": RANDOM.integers(-127, 128, (16, 8), dtype=np.int8),
    "s": np.float32(0.02),
    "w": RANDOM.normal(size=(8, 4)).astype(np.float32),
    "ids": np.array([3, 1, 15]),
}
TABLE = "(float[3, 8] x) => (float[3, 8] y) { g = Gather (q, ids) f = Cast <to = 1> (g) e = Mul (f, s) y = Add (x, e) }"
TURNED = (
    "(float[2, 8] x) => (float[2, 16] y) { t = Transpose (q) f = Cast <to = 1> (t) e = Mul (f, s) y = MatMul (x, e) }"
)
ADDED = "(float[16, 8] x) => (float[16, 8] y) { f = Cast <to = 1> (q) y = Add (x, f) }"
LOOKED_UP = "(float[3, 8] x, int64[3] i) => (float[3, 8] y"
COMPUTED = f"{LOOKED_UP}) {{ g = Gather (q, i) d = Add (g, g) f = Cast <to = 1> (d) y = Add (x, f) }}"
OUT = f"{LOOKED_UP}, int8[3, 8] g) {{ g = Gather (q, i) y = Relu (x) }}"


def model(text):
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {text}')
    read = {name for node in proto.graph.node for name in node.input}
    for name, array in CONSTANTS.items():
        if name in read:
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    for index, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{index}"
    return from_proto(proto)


@pytest.mark.parametrize("text", [TABLE, TURNED, ADDED], ids=["looked up", "transposed", "added"])
def test_they_are_dequantized_with_a_step_of_one(text, tmp_path):
    made = model(text)
    assert unsupported(made, load_target("jetson")) == []
    canonical = canonical_form(made)
    assert canonical.changed
    verify(canonical.model)
    form = weak_form(canonical.model)
    assert [node.op_type for node in form.graph].count("DequantizeLinear") == 1
    codes = [value for value in form.graph.initializers.values() if value.dtype == DataType.INT8 and value.shape]
    assert sum(value.const_value.nbytes for value in codes) == 128
    feed = {"x": RANDOM.normal(size=[int(dim) for dim in made.graph.inputs[0].shape]).astype(np.float32)}
    np.testing.assert_array_equal(*(Session(each, optimization="none").run(feed)["y"] for each in (made, form)))
    if find_toolchain("tensorrt_rtx") is not None:
        save(form, tmp_path / "model.onnx")
        assert build(BuildRequest(tmp_path / "model.onnx", capability="8.6")).built


@pytest.mark.parametrize(("text", "where"), [(COMPUTED, "Add_1"), (OUT, "Gather_0")], ids=["computed", "output"])
def test_what_has_no_such_form_is_refused_before_any_work(text, where, tmp_path):
    made = model(text)
    (refusal,) = unsupported(made, load_target("jetson"))
    assert refusal.where == where
    assert "a constant in int8" in refusal.why
    assert dequantize_constants(made) == 0
    save(made, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="cannot take it"):
        optimize(tmp_path / "model.onnx", target="jetson", output=tmp_path / "out")


@pytest.mark.parametrize("text", [TABLE, TURNED, ADDED], ids=["looked up", "transposed", "added"])
def test_they_count_as_parameters(text):
    assert model_cost(model(text)).parameters == 128 + ("Mul" in text)
