"""Activations that saturation absorbs."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.ir import Editor, clone, from_proto, verify
from graphpress.ir.encoding import AffineEncoding, encoding_of, integer_bounds, override_use, set_encoding
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
    absorbed = clone(model)
    absorb_activations(absorbed)
    verify(absorbed)
    feed = {"x": np.float32(data.draw(st.lists(st.floats(-1e4, 1e4, width=32), min_size=8, max_size=8)))}
    outputs = []
    for variant in (model, absorbed):
        materialize_qdq(variant)
        outputs.append(Session(variant, optimization="none").run(feed)["y"])
    np.testing.assert_array_equal(outputs[1], outputs[0])


def _build(text, **weights):
    """As the fixture, which hypothesis cannot use."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> g {text}')
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return from_proto(proto)


def test_an_activation_whose_bounds_are_the_grids_is_absorbed(build):
    model = clamp(build, "Relu", AffineEncoding("uint8", (0.1,), (0,)))
    assert absorb_activations(model) == 1
    assert [node.op_type for node in model.graph] == ["Neg", "Neg"]
    assert encoding_of(model.graph[0].outputs[0]) == AffineEncoding("uint8", (0.1,), (0,))
    assert absorb_activations(clamp(build, "Clip", AffineEncoding("uint8", (6 / 255,), (0,)), 0, 6)) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda model: set_encoding(model.graph[1].outputs[0], AffineEncoding("uint8", (0.1,), (1,))),
        lambda model: set_encoding(model.graph[1].outputs[0], AffineEncoding("uint8", (0.1,) * 2, (0,) * 2, axis=0)),
        lambda model: set_encoding(model.graph[0].outputs[0], AffineEncoding("uint8", (0.1,), (0,))),
        lambda model: override_use(model.graph[2], 0, "float"),
        lambda model: set_encoding(model.graph[1].outputs[0], None),
        lambda model: setattr(model.graph[1], "domain", "custom"),
        lambda model: Editor(model).add_node("Abs", [model.graph[0].outputs[0]], after=model.graph[2]),
    ],
)
def test_an_activation_that_does_more_stays(build, change):
    model = clamp(build, "Relu", AffineEncoding("uint8", (0.1,), (0,)))
    change(model)
    assert absorb_activations(model) == 0
