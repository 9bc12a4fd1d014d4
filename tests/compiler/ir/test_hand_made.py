"""Dequantization by hand gets its name, and is read back as an encoding."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.ir import clone, from_proto, verify
from graphpress.ir.encoding import encoding_of
from graphpress.ir.hand_made import spell_dequantization
from graphpress.ir.qdq import import_qdq, materialize_qdq
from graphpress.runtime import Session

RANDOM = np.random.default_rng(8)
BODY = "f = Cast <to=1> (q) w = Mul (f, s) y = MatMul (x, w)"
CODES = RANDOM.integers(-127, 128, (4, 3), dtype=np.int8)


def build(scale, *, body=BODY, codes=CODES, opset=17, z=None):
    text = f'<ir_version: 8, opset_import: ["": {opset}]> g (float[2,4] x) => (float[2,3] y) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    for name, array in (("q", codes), ("s", np.asarray(scale)), ("z", z)):
        if array is not None:
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return from_proto(proto)


SCALES = {
    "one for all": np.float32(0.02),
    "one in a list": np.array([0.02], np.float32),
    "along the last axis": np.array([0.01, 0.02, 0.03], np.float32),
    "along the first axis": np.array([[0.01], [0.02], [0.03], [0.04]], np.float32),
}


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("body", [BODY, BODY.replace("(f, s)", "(s, f)")])
def test_it_becomes_an_encoding_and_computes_the_same(scale, body):
    model = build(scale, body=body)
    after = clone(model)
    assert import_qdq(after).count == 1
    verify(after)
    (product,) = after.graph
    encoding = encoding_of(product.inputs[1])
    assert encoding.dtype == "int8"
    np.testing.assert_array_equal(product.inputs[1].const_value.codes.numpy(), CODES)
    materialize_qdq(after)
    feed = {"x": RANDOM.normal(size=(2, 4)).astype(np.float32)}
    results = [Session(each, optimization="none").run(feed)["y"] for each in (model, after)]
    np.testing.assert_array_equal(*results)


SHIFTED = "f = Cast <to=1> (q) d = Sub (f, z) w = Mul (d, s) y = MatMul (x, w)"


@pytest.mark.parametrize("codes", [CODES, (CODES.astype(np.int16) + 128).astype(np.uint8)], ids=["int8", "uint8"])
@pytest.mark.parametrize("scale", [SCALES["one for all"], SCALES["along the last axis"]], ids=["one", "axis"])
def test_a_zero_point_is_part_of_it(scale, codes):
    model = build(scale, body=SHIFTED, codes=codes, z=np.float32(5))
    after = clone(model)
    assert import_qdq(after).count == 1
    verify(after)
    (product,) = after.graph
    encoding = encoding_of(product.inputs[1])
    assert encoding.dtype == codes.dtype.name
    assert set(np.ravel(encoding.zero_point)) == {5}
    feed = {"x": RANDOM.normal(size=(2, 4)).astype(np.float32)}
    materialize_qdq(after)
    results = [Session(each, optimization="none").run(feed)["y"] for each in (model, after)]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    "model",
    [
        build(np.float32(0.1), body=SHIFTED, z=np.float32(5.5)),
        build(np.float32(0.1), body=SHIFTED, z=np.float32(300)),
        build(np.float32(0.1), body=SHIFTED, z=np.array([1, 2, 3], np.float32)),
        build(np.full((4, 3), 0.1, np.float32)),
        build(np.array([0.1, -0.2, 0.3], np.float32)),
        build(np.array([0.1, 0.2, 0.3], np.float32), opset=12),
        build(np.float32(0.1), codes=CODES.astype(np.int32)),
        build(np.float32(0.1), body="f = Cast <to=1> (q) w = Add (f, s) y = MatMul (x, w)"),
    ],
    ids=[
        "half a step",
        "off the grid",
        "a zero-point for each",
        "a scale for each",
        "below zero",
        "no axis before 13",
        "other integers",
        "no product",
    ],
)
def test_what_is_something_else_stays(model):
    before = [node.op_type for node in model.graph]
    assert spell_dequantization(model) == 0
    assert [node.op_type for node in model.graph] == before
