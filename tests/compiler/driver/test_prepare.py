"""From a loaded model to the graph that passes see."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.driver.input_shapes import parse_input_ranges, parse_input_shapes
from graphpress.errors import UsageError
from graphpress.ir import from_proto
from graphpress.ir.encoding import compute_request, encoding_of
from graphpress.manager.prepare import prepare


def model(text, **weights):
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 17]> g {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return from_proto(proto)


@pytest.fixture
def network():
    return model(
        "(float[N,3,H,8] x) => (float[N,4,h,w] y) { c = Conv(x, w) y = Relu(c) }", w=np.ones((4, 3, 3, 3), np.float32)
    )


@pytest.mark.parametrize(
    ("texts", "shapes"),
    [
        ([], {}),
        (["x=1x3x8x8"], {"x": (1, 3, 8, 8)}),
        (["x=4", "y="], {"x": (4,), "y": ()}),
        (["a=b:0=1x2"], {"a=b:0": (1, 2)}),
    ],
)
def test_reads_input_shapes(texts, shapes):
    assert parse_input_shapes(texts) == shapes


@pytest.mark.parametrize("text", ["x", "1x3", "x=1x", "x=1xN", "x=-1x3", "x=0x3", "x=1,3"])
def test_refuses_what_is_no_shape(text):
    with pytest.raises(UsageError, match="cannot read"):
        parse_input_shapes([text])


def test_fixed_inputs_fix_what_follows_from_them(network):
    prepare(network, {"x": (2, 3, 6, 8)})
    assert list(network.graph.inputs[0].shape) == [2, 3, 6, 8]
    assert list(network.graph[0].outputs[0].shape) == [2, 4, 4, 6]


def test_nodes_get_names_and_values_types(network):
    prepare(network, {})
    assert [node.name for node in network.graph] == ["Conv_c", "Relu_y"]
    assert network.graph[0].outputs[0].shape[3] == 6
    assert network.graph[0].outputs[0].dtype is not None


def test_two_nameless_nodes_never_share_a_name():
    same = model("(float[2] x) => (float[2] y, float[2] Relu_y) { y = Relu(x) Relu_y = Relu(x) }")
    prepare(same, {})
    names = [node.name for node in same.graph]
    assert len(set(names)) == 2
    assert "" not in names


@pytest.mark.parametrize(
    ("shapes", "what"),
    [({"X": (1, 3, 8, 8)}, "no input 'X'"), ({"x": (1, 3, 8, 9)}, "contradicts"), ({"x": (1, 3, 8)}, "contradicts")],
)
def test_shapes_that_go_against_the_model_are_refused(network, shapes, what):
    with pytest.raises(UsageError, match=what) as raised:
        prepare(network, shapes)
    assert raised.value.fix


def test_quantized_models_come_back_as_pinned_encodings():
    quantized = model(
        "(float[2,4] x) => (float[2,3] y) { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) "
        "v = DequantizeLinear(w, t) y = MatMul(d, v) }",
        s=np.float32(0.1),
        z=np.uint8(128),
        w=np.ones((4, 3), np.int8),
        t=np.float32(0.5),
    )
    assert prepare(quantized, {}) == []
    assert [node.op_type for node in quantized.graph] == ["MatMul"]
    assert all(encoding_of(value).imported for value in quantized.graph[0].inputs)


def test_q_and_dq_that_stay_are_named_with_the_reason():
    dynamic = model("(float[2,4] x, float s) => (float[2,4] y) { q = QuantizeLinear(x, s) y = DequantizeLinear(q, s) }")
    (refusal,) = prepare(dynamic, {})
    assert "computed at run time" in refusal.why


def test_who_came_quantized_asked_for_integers():
    prepared = model(
        """(float[1, 4] x) => (float[1, 4] z) {
            q = QuantizeLinear(x, s, o) d = DequantizeLinear(q, s, o) w = DequantizeLinear(i, s, o)
            y = MatMul(d, w) z = MatMul(y, w)
        }""",
        s=np.float32(0.5), o=np.int8(0), i=np.eye(4, dtype=np.int8),
    )  # fmt: skip
    prepare(prepared, {})
    assert [compute_request(node) for node in prepared.graph] == ["int8", None]


def ranged(*texts):
    return parse_input_ranges(texts, model("(float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Relu(x) }"))


def test_ranges_of_open_inputs_are_read():
    assert ranged("x=1x3x8x8:2x3x8x8:4x3x16x16") == {"x": ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 16, 16))}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x=1x3x8x8", "cannot read"),
        ("z=1x3x8x8:2x3x8x8:4x3x8x8", "no input 'z'"),
        ("x=4x3x8x8:2x3x8x8:1x3x8x8", "not in order"),
        ("x=1x3x8:2x3x8:4x3x8", "contradicts"),
        ("x=1x4x8x8:2x4x8x8:4x4x8x8", "contradicts"),
        ("x=ax3:1x3:2x3", "cannot read"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(text, what):
    with pytest.raises(UsageError, match=what):
        ranged(text)
