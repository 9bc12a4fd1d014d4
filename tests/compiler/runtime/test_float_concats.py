"""Concatenations in half precision that ONNX Runtime takes for integer ones."""

import onnx.parser
import pytest

from graphpress.ir import from_proto
from graphpress.ir.encoding import AffineEncoding, float_type, override_output, set_encoding, set_float_type
from graphpress.runtime import widen_concats

TEXT = """<ir_version: 9, opset_import: ["": 19]> g (float[4] x) => (float[8] y)
{ a = Relu(x) b = Neg(x) c = Concat<axis=0>(a, b) y = Relu(c) }"""
STEP = AffineEncoding("int8", (0.1,), (0,))


@pytest.fixture
def concat():
    """Relu and Neg, put side by side, and read by a Relu: each value encoded, each node in half precision."""
    model = from_proto(onnx.parser.parse_model(TEXT))
    for node in model.graph:
        set_float_type(node, "float16")
        set_encoding(node.outputs[0], STEP)
    return model


def test_a_concat_between_quantizers_gets_float32(concat):
    assert widen_concats(concat) == 1
    assert [float_type(node) for node in concat.graph] == ["float16", "float16", None, "float16"]
    assert widen_concats(concat) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: set_encoding(graph[0].outputs[0], None),
        lambda graph: set_encoding(graph[2].outputs[0], None),
        lambda graph: (graph.outputs.append(graph[2].outputs[0]), override_output(graph[2].outputs[0], "float")),
        lambda graph: set_float_type(graph[2], None),
    ],
)
def test_any_other_keeps_its_type(concat, change):
    change(concat.graph)
    assert widen_concats(concat) == 0
