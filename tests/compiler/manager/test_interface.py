"""What a caller sees of a model: declared, computed, compared."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from graphpress.ir import DataType, Shape, TensorType, clone, dims_of, from_proto
from graphpress.manager.interface import computed_fault, correct_outputs, declared_fault, unlike

ONES = np.ones((2, 3), np.float32)


@pytest.fixture
def model():
    """Two outputs, of which one says everything of its shape and one nothing."""
    sides = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in side]
        for side in ([("x", ["n", 3])], [("y", ["n", 3]), ("z", None)])
    ]
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])]
    graph = helper.make_graph(nodes, "g", *sides)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def answer(**outputs):
    return {"y": ONES, "z": ONES, **outputs}


# -- declared --------------------------------------------------------------------------------------------------


def shape(name, dims):
    def change(model):
        value = next(value for value in (*model.graph.inputs, *model.graph.outputs) if value.name == name)
        value.shape = None if dims is None else Shape(dims)

    return change


def typed(name, dtype):
    def change(model):
        value = next(value for value in (*model.graph.inputs, *model.graph.outputs) if value.name == name)
        value.type = None if dtype is None else TensorType(dtype)

    return change


def swapped(model):
    model.graph.outputs.reverse()


@pytest.mark.parametrize(
    "change",
    [lambda model: None, shape("y", [2, 3]), shape("y", ["m", 3]), shape("z", [2, 3]), shape("z", ["a", None])],
)
def test_an_output_may_be_declared_more_exactly(model, change):
    changed = clone(model)
    change(changed)
    assert declared_fault(changed, model) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shape("y", ["n", 4]), "output 'y' is declared float[n, 4], not float[n, 3]"),
        (shape("y", ["n", None]), "output 'y' is declared float[n, ?], not float[n, 3]"),
        (shape("y", ["n"]), "output 'y' is declared float[n], not float[n, 3]"),
        (shape("y", None), "output 'y' is declared float, not float[n, 3]"),
        (shape("x", [2, 3]), "input 'x' is declared float[2, 3], not float[n, 3]"),
        (shape("x", ["n", "c"]), "input 'x' is declared float[n, c], not float[n, 3]"),
        (shape("x", None), "input 'x' is declared float, not float[n, 3]"),
        (typed("y", DataType.FLOAT16), "output 'y' is declared float16[n, 3], not float[n, 3]"),
        (typed("z", None), "output 'z' is declared of no type, not float"),
        (swapped, "outputs are ['z', 'y'], not ['y', 'z']"),
        (lambda model: model.graph.outputs.pop(), "outputs are ['y'], not ['y', 'z']"),
        (lambda model: setattr(model.graph.inputs[0], "name", "data"), "inputs are ['data'], not ['x']"),
    ],
)
def test_it_may_be_declared_in_no_other_way(model, change, said):
    changed = clone(model)
    change(changed)
    assert declared_fault(changed, model) == said


# -- computed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (answer(), None),
        (answer(z=np.ones(5, np.float32)), None),
        (answer(y=ONES[:, :2]), "output 'y' is float32[2, 2], and is declared float[n, 3]"),
        (answer(y=ONES[0]), "output 'y' is float32[3], and is declared float[n, 3]"),
        (answer(y=ONES.astype(np.float64)), "output 'y' is float64[2, 3], and is declared float[n, 3]"),
        (answer(z=[ONES]), "output 'z' is list, and is declared float"),
        ({"y": ONES}, "outputs are ['y'], not ['y', 'z']"),
        (answer(w=ONES), "outputs are ['w', 'y', 'z'], not ['y', 'z']"),
    ],
)
def test_what_is_computed_is_what_is_declared(model, outputs, said):
    assert computed_fault(outputs, model) == said


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (answer(y=2 * ONES), None),
        (answer(z=ONES[:, :2]), "output 'z' is float32[2, 2], not float32[2, 3]"),
        (answer(z=ONES[:1]), "output 'z' is float32[1, 3], not float32[2, 3]"),
        (answer(z=ONES.astype(np.float16)), "output 'z' is float16[2, 3], not float32[2, 3]"),
        (answer(z=[ONES]), "output 'z' is list, not float32[2, 3]"),
        ({"y": ONES}, "outputs are ['y'], not ['y', 'z']"),
    ],
)
def test_two_models_compute_alike(outputs, said):
    assert unlike(outputs, answer()) == said


def test_sizes_that_depend_on_numbers_may_differ_and_nothing_else():
    assert unlike(answer(z=ONES[:1]), answer(), ["z"]) is None
    assert unlike(answer(z=ONES[0]), answer(), ["z"]) == "output 'z' is float32[3], not float32[2, 3]"
    assert unlike(answer(y=ONES[:1]), answer(), ["z"]) == "output 'y' is float32[1, 3], not float32[2, 3]"


# -- corrected -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "left"),
    [
        (["n", 5], (None, None)),
        ([2, 5], (2, None)),
        (["n"], (None, None)),
        ([], (None, None)),
        ([2, 3, 1], (None, None)),
    ],
)
def test_a_shape_that_is_not_computed_is_left_open(model, dims, left):
    shape("y", dims)(model)
    (refusal,) = correct_outputs(model, answer())
    assert refusal.where == "y"
    assert "is not believed: it is computed as float32[2, 3]" in refusal.why
    assert dims_of(model.graph.outputs[0]) == left
    assert correct_outputs(model, answer()) == []


def test_what_is_computed_stays_declared(model):
    assert correct_outputs(model, answer(z=[ONES])) == []
    assert dims_of(model.graph.outputs[0]) == (None, 3)
