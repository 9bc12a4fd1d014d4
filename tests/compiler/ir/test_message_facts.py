"""What a message tells without a graph being made of it."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpress.ir import to_proto
from graphpress.ir.message_facts import MessageFacts
from graphpress.models import build


def message(text, *, domains=""):
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 19{domains}]> {text}')


def with_initializer(array):
    proto = message("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    proto.graph.initializer.append(numpy_helper.from_array(array, "w"))
    return proto


def with_sparse_initializer(dtype):
    proto = message("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    values = numpy_helper.from_array(np.ones(1, dtype), "w")
    proto.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64), "i"), [4])
    )
    return proto


def in_a_branch(node):
    proto = message("g (bool c, float[2] x) => (float[2] y) { y = Relu(x) }")
    body = helper.make_graph(
        [node, helper.make_node("Relu", ["x"], ["r"])], "body", [], [helper.make_value_info("r", onnx.TypeProto())]
    )
    proto.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body))
    return proto


def in_a_function(text):
    return message(
        "g (float[2] x) => (float[2] y) { y = f.F(x) }"
        f'<domain: "f", opset_import: ["": 19]> F (a) => (b) {{ {text} }}',
        domains=', "f": 1',
    )


HALF = {
    "an input": message("g (float16[2] x) => (float16[2] y) { y = Relu(x) }"),
    "an input sequence": message("g (seq(float16[2]) x) => (float16[2] y) { y = ConcatFromSequence<axis=0>(x) }"),
    "a constant": with_initializer(np.ones(2, np.float16)),
    "a sparse constant": with_sparse_initializer(np.float16),
    "a cast": message("g (float[2] x) => (float16[2] y) { y = Cast<to=10>(x) }"),
    "a node in a branch": in_a_branch(helper.make_node("EyeLike", ["x"], ["e"], dtype=TensorProto.FLOAT16)),
    "a constant in a branch": in_a_branch(
        helper.make_node("Constant", [], ["e"], value=numpy_helper.from_array(np.ones(1, np.float16)))
    ),
    "a function": in_a_function("h = Cast<to=10>(a) b = Cast<to=1>(h)"),
}
NO_HALF = {
    "floats": message("g (float[2] x) => (float[2] y) { y = Cast<to=1>(x) }"),
    "a constant of floats": with_initializer(np.ones(2, np.float32)),
    "an operator of a vendor": message("g (float[2] x) => (float[2] y) { y = v.O<to=10>(x) }", domains=', "v": 1'),
    "a reference in a function": in_a_function("b = Cast<to: int = @to>(a)"),
    "a number that is no type": message("g (float[9] x) => (float[9] y) { y = Softmax<axis=10>(x) }"),
}


@pytest.mark.parametrize("where", HALF)
def test_half_precision_is_seen(where):
    assert MessageFacts.of(HALF[where]).half


def test_casts_alone_are_no_constants_in_half():
    cast = onnx.helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT16)
    values = [onnx.helper.make_tensor_value_info(name, 1 if name == "x" else 10, [2]) for name in "xy"]
    facts = MessageFacts.of(onnx.helper.make_model(onnx.helper.make_graph([cast], "g", values[:1], values[1:])))
    assert (facts.half, facts.half_constants) == (True, False)


@pytest.mark.parametrize("where", NO_HALF)
def test_what_is_not_half_precision(where):
    assert not MessageFacts.of(NO_HALF[where]).half


def test_an_input_without_a_rank_is_no_scalar():
    proto = message("g (float[] x, float s, seq(float[]) q, seq(float[2]) r) => (float[] y) { y = Add(x, s) }")
    assert MessageFacts.of(proto).unranked == {"x", "q"}


def test_a_message_stays_as_it_is():
    proto = to_proto(build("control_flow"))
    before = proto.SerializeToString(deterministic=True)
    MessageFacts.of(proto)
    assert proto.SerializeToString(deterministic=True) == before
