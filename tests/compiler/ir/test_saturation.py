"""Activations that saturation absorbs."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.ir import Editor, clone, constant, from_proto, verify
from graphpress.ir.encoding import AffineEncoding, integer_bounds, override_output, override_use, set_encoding
from graphpress.ir.qdq import materialize_qdq
from graphpress.ir.saturation import absorb_activations
from graphpress.runtime import Session


def clamp(build, op, encoding, low=None, high=None):
    operands = {"low": low, "high": high} if op == "Clip" else {}
    operand_list = "".join(f", {name if value is not None else ''}" for name, value in operands.items())
    constants = {name: np.float32(value) for name, value in operands.items() if value is not None}
    model = build(f"(float[N] x) => (float[N] y) {{ h = Neg (x) a = {op} (h{operand_list}) y = Neg (a) }}", **constants)
    set_encoding(model.graph[1].outputs[0], encoding)
    return model


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_absorbing_changes_no_bit(data):
    dtype = data.draw(st.sampled_from(["uint8", "int8", "uint16", "int16"]))
    low, high = integer_bounds(dtype)
    scale = data.draw(st.floats(2**-8, 4, width=32))
    zero = data.draw(st.sampled_from([low, low + 1, 0, high]))
    op = data.draw(st.sampled_from(["Relu", "Clip"]))
    bounds = sorted(data.draw(st.tuples(st.floats(-8, 8, width=32), st.floats(-8, 8, width=32))))
    model = clamp(_build, op, AffineEncoding(dtype, (scale,), (zero,)), *bounds)
    materialize_qdq(model)
    absorbed = clone(model)
    count = absorb_activations(absorbed)
    verify(absorbed)
    assert count == 1 or dtype in ("uint16", "int16")
    feed = {"x": np.float32(data.draw(st.lists(st.floats(-1e4, 1e4, width=32), min_size=8, max_size=8)))}
    outputs = [Session(variant, optimization="none").run(feed)["y"] for variant in (model, absorbed)]
    np.testing.assert_array_equal(outputs[1], outputs[0])


def _build(text, **weights):
    """As the fixture, which hypothesis cannot use."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> g {text}')
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return from_proto(proto)


def append_float_output(model, value):
    model.graph.outputs.append(value)
    override_output(value, "float")


def absorbed(model):
    materialize_qdq(model)
    return absorb_activations(model), [node.op_type for node in model.graph]


def test_an_activation_whose_bounds_are_the_grids_is_absorbed(build):
    nothing_left = (1, ["Neg", "QuantizeLinear", "DequantizeLinear", "Neg"])
    assert absorbed(clamp(build, "Relu", AffineEncoding("uint8", (0.1,), (0,)))) == nothing_left
    assert absorbed(clamp(build, "Clip", AffineEncoding("uint8", (6 / 255,), (0,)), 0, 6)) == nothing_left


@pytest.mark.parametrize(
    ("op", "bounds", "encoding", "limits"),
    [
        ("Clip", (1, 6), AffineEncoding("uint8", (6 / 255,), (0,)), [42, 255]),
        ("Clip", (None, 0.5), AffineEncoding("uint8", (0.1,), (100,)), [0, 105]),
        ("Clip", (-0.5, 0.5), AffineEncoding("int8", (0.01,), (0,)), [-50, 50]),
        ("Relu", (), AffineEncoding("int8", (0.1,), (0,)), [0, 127]),
    ],
)
def test_one_with_limits_inside_the_grid_clamps_the_integers(build, op, bounds, encoding, limits):
    model = clamp(build, op, encoding, *bounds)
    assert absorbed(model) == (1, ["Neg", "QuantizeLinear", "Clip", "DequantizeLinear", "Neg"])
    assert [int(constant(value)) for value in model.graph[2].inputs[1:]] == limits
    assert absorb_activations(model) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda model: set_encoding(model.graph[1].outputs[0], AffineEncoding("uint8", (0.1,) * 2, (0,) * 2, axis=0)),
        lambda model: set_encoding(model.graph[0].outputs[0], AffineEncoding("uint8", (0.1,), (0,))),
        lambda model: set_encoding(model.graph[1].outputs[0], AffineEncoding("uint16", (0.1,), (7,))),
        lambda model: override_use(model.graph[2], 0, "float"),
        lambda model: set_encoding(model.graph[1].outputs[0], None),
        lambda model: setattr(model.graph[1], "domain", "custom"),
        lambda model: append_float_output(model, model.graph[1].outputs[0]),
        lambda model: model.graph.outputs.append(model.graph[0].outputs[0]),
        lambda model: Editor(model).add_node("Abs", [model.graph[0].outputs[0]], after=model.graph[2]),
    ],
)
def test_an_activation_that_does_more_stays(build, change):
    model = clamp(build, "Relu", AffineEncoding("uint8", (0.1,), (0,)))
    change(model)
    assert absorbed(model)[0] == 0


def test_limits_that_are_computed_or_cross_stay(build):
    model = build("(float[N] x, float low) => (float[N] y) { h = Neg (x) a = Clip (h, low) y = Neg (a) }")
    set_encoding(model.graph[1].outputs[0], AffineEncoding("uint8", (0.1,), (0,)))
    assert absorbed(model)[0] == 0
    assert absorbed(clamp(build, "Clip", AffineEncoding("uint8", (0.1,), (0,)), 6, 1))[0] == 0


def test_integers_are_not_clamped_before_the_operator_set_that_can(build):
    text = "(float[N] x) => (float[N] y) { h = Neg (x) a = Clip <min=1.0, max=6.0> (h) y = Neg (a) }"
    model = build(text, opset=10)
    set_encoding(model.graph[1].outputs[0], AffineEncoding("uint8", (6 / 255,), (0,)))
    assert absorbed(model)[0] == 0
