"""Models of other float types in float32: what they compute, what the world outside sees, and what cannot follow."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.errors import UsageError
from graphpress.ir import DataType, clone, from_proto, graphs, producer, to_proto, verify
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.passes.precision._widen import to_float32
from graphpress.passes.precision.to_float32 import ToFloat32
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(5)
SHAPES = {"w": (4, 4), "h": (4, 2), "k": (1, 16, 4), "r": (1, 16, 4)}
TYPES = {"float16": np.float16, "double": np.float64}

PLAIN = """(T[N,4] x) => (T[N,2] y) {
    a = MatMul (x, w)
    c = Cast <to=@> (limit)
    b = Min (a, c)
    s = Shape (b)
    fill = ConstantOfShape (s)
    f = Add (b, fill)
    half = Constant ()
    g = Mul (f, half)
    y = MatMul (g, h)
}"""
BRANCHES = """(T[N,4] x, bool go) => (T[N,4] y) {
    a = MatMul (x, w)
    y = If (go) <then_branch = t () => (T[N,4] p) { q = MatMul (a, w) p = Relu (q) },
                 else_branch = e () => (T[N,4] n) { n = Identity (x) }>
}"""
RECURRENT = """(T[3,1,4] x) => (T[1,1,4] y) { , y = LSTM <hidden_size=4> (x, k, r) }"""
FOREIGN = """(T[N,4] x) => (T[N,4] y, T[N,4] z) {
    a = MatMul (x, w)
    b = acme.Own (a, w)
    y = Relu (b)
    z = acme.Own (b)
}"""
ROUNDED = "(T[N,4] x) => (T[N,4] y) { a = Cast <to=1> (x) b = Cast <to=@> (a) c = Cast <to=1> (b) y = Cast <to=@> (c) }"
GRAPHS = {"plain": PLAIN, "branches": BRANCHES, "recurrent": RECURRENT}


def build(text, kind, *, opset=17, **declared):
    text = text.replace("T[", f"{kind}[")
    text = text.replace("@", str({"float16": 10, "double": 11}[kind]))
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}, "acme": 1]> g {text}')
    arrays = {name: (RANDOM.normal(size=shape) / 2).astype(TYPES[kind]) for name, shape in SHAPES.items()}
    arrays["limit"] = np.array(1.5, np.float32)
    for node in proto.graph.node:
        if node.op_type.startswith("Constant"):
            value = numpy_helper.from_array(np.array([0.5], TYPES[kind]))
            node.attribute.append(onnx.helper.make_attribute("value", value))
    used = {name for node in proto.graph.node for name in node.input} | {"w"}
    proto.graph.initializer.extend(numpy_helper.from_array(arrays[name], name) for name in arrays.keys() & used)
    proto.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(name, dtype, ["N", 4]) for name, dtype in declared.items()
    )
    model = from_proto(proto)
    prepare(model, {})
    return model


def widen(model, **fields):
    after = clone(model)
    outcome = ToFloat32(**fields).run(after, Context(load_target("cpu"), model))
    verify(after)
    return after, outcome


def feed_for(model):
    feed = {}
    for value in model.graph.inputs:
        shape = [dim if isinstance(dim, int) else 3 for dim in value.shape]
        array = RANDOM.normal(size=shape)
        feed[value.name] = np.array(True) if value.name == "go" else array.astype(value.dtype.numpy())
    return feed


def public(model):
    return [(value.name, value.type) for value in (*model.graph.inputs, *model.graph.outputs)]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", GRAPHS)
def test_it_computes_the_same_in_float32_and_looks_as_before(name, kind):
    if (name, kind) == ("recurrent", "double"):
        pytest.skip("ONNX Runtime has no LSTM in float64 to compare with")
    model = build(GRAPHS[name], kind)
    after, outcome = widen(model)
    assert outcome.changes > 0
    assert outcome.refusals == []
    onnx.checker.check_model(to_proto(after), full_check=True)
    assert public(after) == public(model)
    nodes = (node for graph in graphs(after) for node in graph if node.op_type not in ("Cast", "Shape"))
    assert {node.outputs[-1].dtype for node in nodes} == {DataType.FLOAT}
    feed = feed_for(model)
    before, now = (Session(each, optimization="none").run(feed) for each in (model, after))
    for output, expected in before.items():
        assert now[output].dtype == expected.dtype
        np.testing.assert_allclose(now[output].astype(float), expected.astype(float), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("text", [PLAIN, BRANCHES, FOREIGN])
def test_a_second_run_changes_nothing(text, kind):
    dtype = onnx.TensorProto.FLOAT16 if kind == "float16" else onnx.TensorProto.DOUBLE
    after, _ = widen(build(text, kind, b=dtype))
    again, outcome = widen(after)
    assert outcome.changes == 0
    assert len(again.graph) == len(after.graph)


def test_casts_that_round_on_purpose_stay():
    model = build(ROUNDED, "float16")
    after, outcome = widen(model)
    assert outcome.changes == 0
    onnx.checker.check_model(to_proto(after), full_check=True)


def test_types_that_are_not_asked_for_stay():
    model = build(PLAIN, "float16")
    after, outcome = widen(model, types=("float64",))
    assert outcome.changes == 0
    assert [node.op_type for node in after.graph] == [node.op_type for node in model.graph]


def test_what_has_no_float32_keeps_its_type_between_casts():
    after, outcome = widen(build(FOREIGN, "float16", b=onnx.TensorProto.FLOAT16))
    assert [refusal.where for refusal in outcome.refusals] == [
        node.name for node in after.graph if node.op_type == "Own"
    ]
    own, last = (node for node in after.graph if node.op_type == "Own")
    assert [str(value.dtype) for value in (*own.inputs, own.outputs[0])] == ["FLOAT16"] * 3
    assert producer(own.inputs[0], "Cast") is not None
    assert last.inputs[0] is own.outputs[0]
    (relu,) = (node for node in after.graph if node.op_type == "Relu")
    assert str(relu.inputs[0].dtype) == "FLOAT"
    onnx.checker.check_model(to_proto(after))


def test_a_value_of_unknown_type_refuses_the_model():
    after, outcome = widen(build(FOREIGN, "float16"))
    assert outcome.changes == 0
    assert "type is not known" in outcome.refusals[0].why
    assert all(node.op_type != "Cast" for node in after.graph)


def test_the_lowest_double_of_a_mask_stays_finite():
    largest = np.finfo(np.float32).max
    converted = to_float32(np.array([np.finfo(np.float64).min, 1e300, -np.inf, np.nan, 0.5]))
    np.testing.assert_array_equal(converted, np.array([-largest, largest, -np.inf, np.nan, 0.5], np.float32))


def test_quantize_takes_the_model_then():
    model = build(PLAIN, "float16")
    feeds = [feed_for(model)]
    refused = Quantize().run(clone(model), Context(load_target("cpu"), model, calibration=feeds))
    assert any("to_float32" in refusal.fix for refusal in refused.refusals)
    after, _ = widen(model)
    done = Quantize().run(after, Context(load_target("cpu"), model, calibration=feeds))
    assert done.changes > 0


def test_an_unknown_type_is_a_usage_error():
    with pytest.raises(UsageError, match="int8"):
        ToFloat32(types=("int8",))
