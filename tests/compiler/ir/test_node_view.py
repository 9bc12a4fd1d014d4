"""A node as rules read it: defaults, optional inputs, what is constant, shapes, axes, the operator set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.ir import NEWEST_OPSET, AxisError, DataType, NodeView, UnknownShapeError, normalize_axis


@pytest.fixture
def view(build):
    """The view of the last node of a graph."""

    def make(text, opset=17, **weights):
        *_, node = build(text, opset, **weights).graph
        return NodeView.of(node)

    return make


@pytest.fixture
def pad(view):
    return view('(float[2,3] x) => (float[2,5] y) { y = Pad<mode = "edge">(x, pads) }', pads=np.array([0, 1, 0, 1]))


# -- attributes -----------------------------------------------------------------------------------------------


def test_attributes_have_defaults(view):
    conv = view("(float[1,2,8] x, float[4,1,3] w) => (y) { y = Conv<group = 2, strides = [2]>(x, w) }")
    assert (conv.op_type, conv.name) == ("Conv", "")
    assert (conv.integer("group", 1), conv.integer("missing", 7)) == (2, 7)
    assert (conv.integers("strides"), conv.integers("pads")) == ((2,), None)
    assert conv.integers_or_zeros("pads", 2) == (0, 0)
    assert conv.text("auto_pad", "NOTSET") == "NOTSET"


def test_every_kind_of_attribute_is_read(view):
    listed = 'fs = [0.5, 1.0], ss = ["a", "b"], t = float[2] {1, 2}'
    node = view(f'(x) => (y) {{ y = custom.Op<i = 1, f = 0.5, s = "a", to = 10, {listed}>(x) }}')
    assert (node.number("f", 0.0), node.number("g", 0.25)) == (0.5, 0.25)
    assert (node.numbers("fs"), node.numbers("gs")) == ((0.5, 1.0), None)
    assert (node.text("s", ""), node.texts("ss"), node.texts("tt")) == ("a", ("a", "b"), None)
    assert (node.flag("i"), node.flag("j"), node.flag("j", True)) == (True, False, True)
    assert node.array("t").tolist() == [1, 2]
    assert node.array("u") is None
    assert (node.element_type("to"), node.element_type("dtype")) == (DataType.FLOAT16, None)


def test_an_undefined_element_type_is_none(view):
    assert view("(x) => (y) { y = custom.Op<dtype = 0>(x) }").element_type("dtype") is None


def test_a_subgraph_is_read_by_name(view):
    branches = "then_branch = t () => (a) { a = custom.A() }, else_branch = e () => (b) { b = custom.B() }"
    node = view(f"(bool c) => (y) {{ y = If(c) <{branches}> }}")
    assert [inner.op_type for inner in node.graph("else_branch")] == ["B"]
    with pytest.raises(KeyError):
        node.graph("body")


def test_attributes_may_come_from_elsewhere(view):
    """Those of a function's node that refer to its caller."""
    node = view("(x) => (y) { y = LeakyRelu<alpha = 0.5>(x) }").node
    assert NodeView.of(node, attributes={}).number("alpha", 0.01) == 0.01


# -- operands -------------------------------------------------------------------------------------------------


def test_optional_inputs_may_be_absent_in_between_and_at_the_end(view):
    clip = view("(float[2] x, float high) => (y) { y = Clip(x, , high) }")
    assert [clip.has(index) for index in range(4)] == [True, False, True, False]
    assert clip.input(2) is clip.inputs[2]
    assert clip.input(3) is None


def test_constants_are_known_and_results_are_not(pad):
    assert pad.constant(0) is None
    assert pad.constant(1).tolist() == [0, 1, 0, 1]
    assert pad.constant(2) is None


def test_who_reads_the_node_says_what_is_known(pad):
    view = NodeView.of(pad.node, contents=lambda node, index: np.zeros(2) if index == 0 else None)
    assert view.constant(0).tolist() == [0, 0]
    assert view.integers("pads", 1) is None


def test_integers_move_from_an_attribute_to_an_input(view, pad):
    assert pad.integers("pads", 1) == (0, 1, 0, 1)
    assert view("(float[2,3] x) => (y) { y = Pad<pads = [0, 1, 0, 1]>(x) }", 2).integers("pads", 1) == (0, 1, 0, 1)
    assert view("(float[2,3] x, int64[4] p) => (y) { y = Pad(x, p) }").integers("pads", 1) is None


def test_a_scalar_moves_from_an_attribute_to_an_input(view):
    assert view("(float[2] x) => (y) { y = Clip<min = 1.5>(x) }", 6).scalar(1, "min") == 1.5
    assert view("(float[2] x) => (y) { y = Clip(x, low) }", low=np.float32(1.5)).scalar(1, "min") == 1.5
    assert view("(float[2] x) => (y) { y = Clip(x, low) }", low=np.ones(2, np.float32)).scalar(1) is None
    assert view("(float[2] x, float l) => (y) { y = Clip(x, l) }").scalar(1) is None


# -- results, shapes, operator set ------------------------------------------------------------------------------


def test_outputs_count_up_to_the_last_that_is_named(view):
    node = view("(float[4] x) => (y) { y, , z, = custom.Op(x) }")
    assert node.output_count == 3
    assert [node.uses_output(index) for index in range(5)] == [True, False, False, False, False]


def test_shapes_are_those_that_are_given(pad):
    view = NodeView.of(pad.node, input_shapes=((2, 3), None), output_shapes=((2, 5),))
    assert (view.input_shape(0), view.output_shape()) == ((2, 3), (2, 5))
    for index in (1, 2):
        with pytest.raises(UnknownShapeError, match=f"input {index}"):
            view.input_shape(index)
    with pytest.raises(UnknownShapeError, match="output 0"):
        pad.output_shape()


def test_the_operator_set_is_that_of_the_graph_or_the_newest(build):
    (node,) = build("(x) => (y) { y = Relu(x) }", 13).graph
    assert NodeView.of(node).opset == 13
    node.graph.opset_imports.clear()
    assert NodeView.of(node).opset == NEWEST_OPSET


# -- axes -----------------------------------------------------------------------------------------------------


@given(st.integers(-9, 9), st.integers(0, 6))
def test_an_axis_counts_from_the_front_or_does_not_exist(axis, rank):
    if axis in range(-rank, max(rank, 1)):
        assert range(max(rank, 1))[axis] == normalize_axis(axis, rank)
    else:
        with pytest.raises(AxisError, match=f"axis {axis} does not exist in a tensor of rank {rank}"):
            normalize_axis(axis, rank)


def test_the_attribute_axis_has_a_default(view):
    assert view("(x) => (y) { y = Softmax<axis = -2>(x) }").axis(-1, 3) == 1
    assert view("(x) => (y) { y = Softmax(x) }").axis(-1, 3) == 2
    with pytest.raises(AxisError):
        view("(x) => (y) { y = Softmax<axis = 3>(x) }").axis(-1, 3)
