"""The bytes of models, taken apart and put together."""

from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from graphpress.ir import wire
from graphpress.ir.types import Tensor
from graphpress.ir.wire import Insert, Span, WireError, length_field, rewrite, size_of, varint_field

TEXT = """<ir_version: 10, opset_import: ["": 17]> g (float[N,4] x, bool c) => (float[N,4] y) {
    h = MatMul (x, w)
    y = If (c) <then_branch = t () => (float[N,4] a) { a = Add (h, v) },
                else_branch = e () => (float[N,4] b) { b = Neg (h) }>
}"""
SMALL = '<ir_version: 8, opset_import: ["": 17]> g (float[4] x) => (float[4] y) { y = Abs (x) }'
LARGE = np.arange(400, dtype=np.float32)


@pytest.fixture
def message():
    """A model with a large weight in its graph, one in a branch, one in an attribute, and small ones."""
    proto = onnx.parser.parse_model(TEXT)
    branch = next(attribute.g for attribute in proto.graph.node[1].attribute if attribute.name == "then_branch")
    proto.graph.initializer.extend([numpy_helper.from_array(LARGE, "w"), numpy_helper.from_array(LARGE[:3], "small")])
    branch.initializer.append(numpy_helper.from_array(-LARGE, "v"))
    constant = onnx.helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(LARGE + 1))
    proto.graph.node.insert(0, constant)
    return proto


def joined(data, pieces):
    parts = []
    for piece in pieces:
        if isinstance(piece, Insert):
            piece = piece.tensor.tobytes()
        parts.append(data[piece.start : piece.start + piece.size] if isinstance(piece, Span) else piece)
    return b"".join(parts)


def test_nothing_changes_where_nothing_is_replaced(message):
    data = message.SerializeToString()
    pieces = rewrite(data, 100, lambda span: None)
    assert joined(data, pieces) == data
    assert size_of(pieces) == len(data)


def test_large_contents_of_initializers_are_found_in_every_graph(message):
    data, seen = message.SerializeToString(), []
    rewrite(data, 100, lambda span: seen.append(data[span.start : span.start + span.size]))
    assert sorted(seen) == sorted([LARGE.tobytes(), (-LARGE).tobytes()])


def test_what_is_put_in_is_what_protobuf_would_have_written(message):
    whole = message.SerializeToString()
    message.graph.initializer[0].raw_data = b"short"
    data = message.SerializeToString()
    pieces = rewrite(data, 5, lambda span: Insert(Tensor(LARGE)) if span.size == 5 else None)
    assert joined(data, pieces) == whole


def test_what_is_left_out_can_be_said_where_it_stood(message):
    data = message.SerializeToString()
    entry = length_field(1, b"location") + length_field(2, "über".encode())
    place = length_field(13, entry) + varint_field(14, TensorProto.EXTERNAL)
    proto = onnx.ModelProto.FromString(joined(data, rewrite(data, 100, lambda span: place)))
    tensor = proto.graph.initializer[0]
    assert (tensor.name, list(tensor.dims), tensor.HasField("raw_data")) == ("w", [400], False)
    assert tensor.data_location == TensorProto.EXTERNAL
    assert [(entry.key, entry.value) for entry in tensor.external_data] == [("location", "über")]
    del message.graph.initializer[0], proto.graph.initializer[0]
    assert proto.graph.initializer == message.graph.initializer


@pytest.mark.parametrize("doubled", ["contents", "place"])
def test_a_tensor_that_says_it_twice_stays_as_it_is(doubled):
    tensor = numpy_helper.from_array(LARGE, "w").SerializeToString()
    tensor += length_field(9, LARGE.tobytes()) if doubled == "contents" else varint_field(14, 1)
    data = length_field(7, length_field(5, tensor))
    assert joined(data, rewrite(data, 100, lambda span: b"")) == data


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error(content):
    with suppress(WireError):
        assert joined(content, rewrite(content, 0, lambda span: None)) == content


@given(st.binary(min_size=1, max_size=8), st.data())
def test_a_damaged_model_is_a_message_or_an_error(noise, draws):
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[4] x) => (float[4] y) { y = Abs (x) }'
    )
    proto.graph.initializer.append(numpy_helper.from_array(LARGE[:20], "w"))
    data = bytearray(proto.SerializeToString())
    start = draws.draw(st.integers(0, len(data) - 1))
    data[start : start + len(noise)] = noise
    with suppress(WireError):
        assert joined(bytes(data), rewrite(bytes(data), 0, lambda span: None)) == data


def test_what_goes_too_deep_is_an_error():
    graph = b""
    for _ in range(wire.MOST_LEVELS):
        graph = length_field(1, length_field(5, length_field(6, graph)))
    with pytest.raises(WireError, match="without end"):
        rewrite(length_field(7, graph), 0, lambda span: None)


def test_what_takes_too_long_is_an_error():
    data = varint_field(1, 0) * 11
    with pytest.raises(WireError, match="too many"):
        wire._Rewriter(data, 0, lambda span: None, fields_left=10).message(Span(0, len(data)), "model", 1)
