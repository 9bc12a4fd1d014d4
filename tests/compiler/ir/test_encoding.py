"""Encodings as annotations: defaults, overrides, and how long they live."""

import pytest

from graphpress.errors import ModelError
from graphpress.ir import clone, load, save
from graphpress.ir.encoding import (
    COMPUTE_KEY,
    ENCODING_KEY,
    Quantized,
    clear_annotations,
    compute_request,
    encoding_of,
    integer_bounds,
    invalidate_encoding,
    invalidation_of,
    output_encoding,
    override_output,
    override_use,
    read_encoding,
    request_compute,
    set_encoding,
)

U8 = Quantized("uint8", (0.1,), (3,))
ENCODINGS = [
    U8,
    Quantized("int8", (0.1, 1e-30), (0, -5), axis=1),
    Quantized("int4", (0.1, 0.2, 0.3, 0.4), (0, 0, 0, 0), axis=0, block=32, scale_shape=(2, 2), pinned=True),
    Quantized("int32", (1 / 3,), (0,), derived=True, shared="other"),
]


@pytest.fixture
def model(build):
    return build("(float[2] x) => (float[2] y) { a = Relu (x) b = Add (a, a) y = Neg (b) }")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_encoding_survives_clone_save_and_load(model, node_of, tmp_path, encoding):
    node = node_of(model, "b")
    set_encoding(node.inputs[0], encoding)
    set_encoding(model.graph.inputs[0], encoding)
    set_encoding(model.graph.outputs[0], encoding)
    override_use(node, 1, U8)
    override_output(model.graph.outputs[0], "float")
    request_compute(node, "int8")
    save(clone(model), tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    node = node_of(again, "b")
    assert encoding_of(node.inputs[0]) == encoding
    assert read_encoding(node, 0) == encoding
    assert read_encoding(node, 1) == U8
    assert compute_request(node) == "int8"
    assert encoding_of(again.graph.inputs[0]) == encoding_of(again.graph.outputs[0]) == encoding
    assert output_encoding(again.graph.outputs[0]) is None


def test_clones_are_annotated_apart(model, node_of):
    copy = clone(model)
    set_encoding(node_of(copy, "a").outputs[0], U8)
    assert encoding_of(node_of(model, "a").outputs[0]) is None


def test_an_encoding_of_an_initialiser_survives_though_its_type_is_not_repeated(build, tmp_path):
    model = build("(float[2] x) => (float[2] y) { y = Add (x, w) }", w=[1.0, 2.0])
    set_encoding(model.graph.initializers["w"], U8)
    save(model, tmp_path / "m.onnx")
    assert encoding_of(load(tmp_path / "m.onnx").graph.initializers["w"]) == U8


def test_a_use_overrides_the_default(model, node_of):
    node = node_of(model, "b")
    set_encoding(node.inputs[0], U8)
    override_use(node, 0, "float")
    assert (read_encoding(node, 0), read_encoding(node, 1)) == (None, U8)
    override_use(node, 0, None)
    assert read_encoding(node, 0) == U8


def test_an_absent_input_reads_nothing(build, node_of):
    node = node_of(build("(float[2] x) => (float[2] y) { y = Clip (x, , ) }"), "y")
    assert read_encoding(node, 1) is None


def test_invalidation_says_why_and_is_lifted_by_a_new_encoding(model, node_of):
    value = node_of(model, "a").outputs[0]
    invalidate_encoding(value, "changed")
    assert invalidation_of(value) is None
    set_encoding(value, U8)
    override_use(node_of(model, "b"), 1, "float")
    invalidate_encoding(value, "changed")
    assert (encoding_of(value), invalidation_of(value)) == (None, "changed")
    assert read_encoding(node_of(model, "b"), 1) is None
    set_encoding(value, U8)
    assert invalidation_of(value) is None


def test_clearing_leaves_the_words_of_others(model, node_of):
    node = node_of(model, "b")
    node.metadata_props["user"] = "words"
    request_compute(node, "int8")
    override_use(node, 0, U8)
    clear_annotations(node)
    assert dict(node.metadata_props) == {"user": "words"}
    assert COMPUTE_KEY not in node.metadata_props


@pytest.mark.parametrize(
    ("dtype", "bounds"),
    [("int2", (-2, 1)), ("int4", (-8, 7)), ("uint4", (0, 15)), ("uint8", (0, 255)), ("int16", (-32768, 32767))],
)
def test_bounds(dtype, bounds):
    assert integer_bounds(dtype) == Quantized(dtype, (1.0,), (0,)).bounds == bounds


def test_representable_range():
    assert Quantized("uint8", (0.5,), (128,)).representable == (-64.0, 63.5)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kind":"magic"}', '{"kind":"quantized"}', "nonsense"])
def test_an_unreadable_annotation_is_an_error_of_the_model(model, text):
    value = model.graph.inputs[0]
    value.metadata_props[ENCODING_KEY] = text
    with pytest.raises(ModelError, match="unreadable encoding"):
        encoding_of(value)
