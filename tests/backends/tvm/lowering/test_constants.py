"""What follows from constants and fixed shapes is constant; everything else stays."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import graph

from graphpress.analysis.shapes import concrete_shapes
from graphpress.backends.tvm.lowering.constants import fold_constants
from graphpress.ir import Shape
from graphpress.runtime import Session

TEXT = """(float[2, 5, 8] x) => (float[2, 5, 8] z, float[1, 5] w, float[3] random) {
    shape = Shape<start = 1, end = 2>(x)
    length = Squeeze(shape)
    places = Range(zero, length, one)
    row = Unsqueeze(places, front)
    w = Cast<to = 1>(row)
    column = Unsqueeze(w, back)
    table = Mul(column, frequencies)
    rows = Slice(table, zeros, shape, axes)
    random = RandomUniform<shape = [3], dtype = 1>()
    z = Add(x, rows)
}"""


def model():
    """Positions that are computed from the length of the input, one result of them an output, and a random number."""
    made = graph(
        TEXT,
        zero=np.array(0),
        one=np.array(1),
        front=np.array([0]),
        back=np.array([2]),
        zeros=np.array([0]),
        axes=np.array([1]),
        frequencies=np.arange(8, dtype=np.float32),
    )
    for name, shape in concrete_shapes(made).items():
        values = {value.name: value for node in made.graph for value in node.outputs}
        if name in values:
            values[name].shape = Shape(shape)
    return made


def test_only_what_depends_on_inputs_or_is_asked_for_is_left():
    folded, x = model(), np.ones((2, 5, 8), np.float32)
    expected = Session(model()).run({"x": x})
    fold_constants(folded)
    assert sorted(node.op_type for node in folded.graph) == ["Add", "Cast", "RandomUniform"]
    results = Session(folded).run({"x": x})
    for name in ("z", "w"):
        np.testing.assert_array_equal(results[name], expected[name])


def test_constants_that_are_nodes_go_with_what_reads_them():
    text = """(float[1,2] x) => (float[1,2] y) {
        a = Constant <value_floats = [1.0, 2.0]> ()
        b = Constant <value_floats = [3.0, 4.0]> ()
        c = Add(a, b)
        d = Mul(c, b)
        y = Add(x, d)
    }"""
    model = graph(text)
    fold_constants(model)
    assert [node.op_type for node in model.graph] == ["Add"]


def test_folding_again_changes_nothing():
    folded = model()
    fold_constants(folded)
    nodes = list(folded.graph)
    fold_constants(folded)
    assert list(folded.graph) == nodes
