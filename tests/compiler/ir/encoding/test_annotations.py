"""Encodings as annotations: defaults, overrides, and how long they live."""

import tracemalloc

import pytest

from graphpress.ir import clone
from graphpress.ir.encoding import (
    AffineEncoding,
    annotations_of,
    clear_annotations,
    compute_request,
    copy_annotations,
    encoding_of,
    integer_bounds,
    invalidate_encoding,
    invalidation_of,
    is_annotated,
    override_use,
    read_encoding,
    request_compute,
    set_encoding,
)

U8 = AffineEncoding("uint8", 0.1, 3)


@pytest.fixture
def model(build):
    return build("(float[2] x) => (float[2] y) { a = Relu (x) b = Add (a, a) y = Neg (b) }")


def test_clones_are_annotated_apart(model, node_of):
    copy = clone(model)
    set_encoding(node_of(copy, "a").outputs[0], U8)
    assert encoding_of(node_of(model, "a").outputs[0]) is None


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


def test_invalidation_keeps_the_reason_and_is_lifted_by_a_new_encoding(model, node_of):
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


def test_clearing_leaves_the_metadata_of_others(model, node_of):
    node = node_of(model, "b")
    node.metadata_props["user"] = "text"
    request_compute(node, "int8")
    override_use(node, 0, U8)
    clear_annotations(node)
    assert dict(node.metadata_props) == {"user": "text"}
    assert read_encoding(node, 0) is None
    assert compute_request(node) is None


@pytest.mark.parametrize(
    ("dtype", "bounds"),
    [("int2", (-2, 1)), ("int4", (-8, 7)), ("uint4", (0, 15)), ("uint8", (0, 255)), ("int16", (-32768, 32767))],
)
def test_bounds(dtype, bounds):
    assert integer_bounds(dtype) == AffineEncoding(dtype, (1.0,), (0,)).bounds == bounds


def test_representable_range():
    assert AffineEncoding("uint8", (0.5,), (128,)).representable == (-64.0, 63.5)


def test_reading_a_use_allocates_nothing(model, node_of):
    node = node_of(model, "b")
    set_encoding(node.inputs[0], U8)
    override_use(node, 1, AffineEncoding("int8", 0.5))
    reads = [read_encoding(node, 0), read_encoding(node, 1)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(1000):
        read_encoding(node, 0)
        read_encoding(node, 1)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200  # not one byte a read
    assert reads[0] is read_encoding(node, 0)
    assert reads[1] is read_encoding(node, 1)


def test_clones_share_what_is_immutable_and_override_apart(model, node_of):
    override_use(node_of(model, "b"), 0, U8)
    copy = clone(model)
    assert read_encoding(node_of(copy, "b"), 0) is U8
    override_use(node_of(copy, "b"), 1, "float")
    override_use(node_of(copy, "b"), 0, None)
    assert read_encoding(node_of(model, "b"), 0) is U8
    assert read_encoding(node_of(copy, "b"), 0) is None


def test_annotations_compare_by_content(model, node_of):
    a, b = node_of(model, "a").outputs[0], node_of(model, "b").outputs[0]
    assert not is_annotated(a)
    set_encoding(a, U8)
    assert annotations_of(a) != annotations_of(b)
    copy_annotations(a, b)
    assert annotations_of(a) == annotations_of(b)
    set_encoding(b, AffineEncoding("uint8", 0.1, 3))
    assert annotations_of(a) == annotations_of(b)
