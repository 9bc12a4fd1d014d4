"""merge_*: several operators of one kind become one."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.ir import constant
from graphpress.passes.cleanup.fold_idempotent import FoldIdempotent
from graphpress.passes.cleanup.merge_arithmetic import MergeArithmetic
from graphpress.passes.cleanup.merge_clips import MergeClips
from graphpress.passes.cleanup.merge_concats import MergeConcats
from graphpress.passes.cleanup.merge_pads import MergePads
from graphpress.passes.cleanup.merge_reshapes import MergeReshapes
from graphpress.passes.cleanup.merge_slices import MergeSlices

WEIGHTS = {
    "zero": np.array(0, np.float32), "one": np.array(1, np.float32), "two": np.array(2, np.float32),
    "six": np.array(6, np.float32), "tiny": np.array(1e-30, np.float32), "huge": np.array(3e38, np.float32),
    "row": np.array([1, 2, 4], np.float32), "column": np.array([[1], [3]], np.float32),
    "i0": np.array([0]), "i1": np.array([1]), "i2": np.array([2]), "i_1": np.array([-1]), "i9": np.array([9]),
    "six_": np.array([6]), "copy": np.array([0, -1]), "flat": np.array([-1]), "three": np.array([3, 2]),
    "low": np.array(-np.inf, np.float32), "high": np.array(np.inf, np.float32), "shift": np.array(3 << 22, np.float32),
    "border": np.array([0, 1, 1, 0]), "crop": np.array([0, -1, 0, 0]),
}  # fmt: skip


def chain(first: str, second: str) -> str:
    return f"(float[2,3] x) => (float y) {{ a = {first} b = {second} y = ReduceSum<keepdims=0>(b) }}"


@pytest.mark.parametrize(
    ("rule", "first", "second", "left"),
    [
        (FoldIdempotent(), "Relu(x)", "Relu(a)", ["Relu"]),
        (FoldIdempotent(), "Floor(x)", "Floor(a)", ["Floor"]),
        (FoldIdempotent(), "Neg(x)", "Neg(a)", []),
        (FoldIdempotent(), "Sigmoid(x)", "Relu(a)", ["Sigmoid"]),
        (MergeClips(), "Clip(x, zero, six)", "Clip(a, one, two)", ["Clip"]),
        (MergeClips(), "Clip(x, one, two)", "Clip(a, , zero)", ["Clip"]),
        (MergeClips(), "Relu(x)", "Clip(a, , six)", ["Clip"]),
        (MergeClips(), "Clip(x, , low)", "Clip(a, zero, six)", ["Clip"]),
        (MergeClips(), "Clip(x, high, )", "Clip(a, zero, )", ["Clip"]),
        (MergeClips(), "Clip(x, zero, )", "Relu(a)", ["Relu"]),
        (MergeSlices(), "Slice(x, i1, i9, i_1)", "Slice(a, i0, i1, i0)", ["Slice"]),
        (MergeSlices(), "Slice(x, i_1, i0, i1, i_1)", "Slice(a, i0, i1)", ["Slice"]),
        (MergePads(), "Pad(x, border)", "Pad(a, border, zero)", ["Pad"]),
        (MergeConcats(), "Concat<axis=1>(x, x)", "Concat<axis=-1>(x, a, x)", ["Concat"]),
        (MergeReshapes(), "Reshape(x, three)", "Reshape(a, flat)", ["Reshape"]),
        (MergeReshapes(), "Reshape(x, three)", "Reshape(a, copy)", ["Reshape"]),
        (MergeReshapes(), "Unsqueeze(x, i0)", "Flatten<axis=2>(a)", ["Reshape"]),
        (MergeReshapes(), "Unsqueeze(x, i_1)", "Squeeze(a, i_1)", []),
        (MergeArithmetic(), "Add(x, row)", "Sub(a, two)", ["Add"]),
        (MergeArithmetic(), "Sub(x, two)", "Add(row, a)", ["Add"]),
        (MergeArithmetic(), "Mul(two, x)", "Div(a, row)", ["Mul"]),
        (MergeArithmetic(), "Div(x, two)", "Div(a, six)", ["Mul"]),
    ],
)
def test_two_become_one(build, clean, rule, first, second, left):
    model = build(chain(first, second), **WEIGHTS)
    assert clean(rule, model, rtol=1e-5).ops == [*left, "ReduceSum"]


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        (FoldIdempotent(), "Exp(x)", "Exp(a)"),
        (FoldIdempotent(), "Tanh(x)", "Relu(a)"),
        (MergeClips(), "Clip(x, six, one)", "Clip(a, zero, two)"),
        (MergeSlices(), "Slice(x, i1, i9, i1)", "Slice(a, i0, i1, i_1)"),
        (MergePads(), "Pad(x, border, one)", "Pad(a, border, zero)"),
        (MergePads(), "Pad<mode=\"reflect\">(x, border)", "Pad<mode=\"reflect\">(a, border)"),
        (MergePads(), "Pad(x, border)", "Pad(a, crop)"),
        (MergeConcats(), "Concat<axis=0>(x, x)", "Concat<axis=1>(a, a)"),
        (MergeArithmetic(), "Add(x, row)", "Mul(a, two)"),
        (MergeArithmetic(), "Add(x, row)", "Add(a, column)"),
        (MergeArithmetic(), "Sub(two, x)", "Add(a, two)"),
    ],
)  # fmt: skip
def test_what_does_not_compose_stays(build, clean, rule, first, second):
    done = clean(rule, build(chain(first, second), **WEIGHTS))
    assert len(done.ops) == 3
    assert done.outcome.changes == 0


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        (MergeClips(), "Relu(x)", "Clip(a, , six)"),
        (MergeSlices(), "Slice(x, i1, i9, i_1)", "Slice(a, i0, i1, i0)"),
        (MergePads(), "Pad(x, border)", "Pad(a, border)"),
        (MergeConcats(), "Concat<axis=1>(x, x)", "Concat<axis=1>(x, a)"),
        (MergeReshapes(), "Reshape(x, three)", "Reshape(a, flat)"),
        (MergeArithmetic(), "Add(x, row)", "Add(a, two)"),
    ],
)
def test_an_inner_result_that_others_need_stays(build, clean, rule, first, second):
    text = f"(float[2,3] x) => (float a, float y) {{ a = {first} b = {second} y = ReduceSum<keepdims=0>(b) }}"
    assert clean(rule, build(text.replace("float a,", "float[n,m] a,"), **WEIGHTS)).outcome.changes == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Mul(x, tiny)", "Mul(a, tiny)"),
        ("Mul(x, huge)", "Mul(a, huge)"),
        ("Mul(x, zero)", "Mul(a, two)"),
        ("Mul(x, two)", "Div(a, zero)"),
    ],
)
def test_constants_that_leave_the_range_are_refused(build, clean, first, second):
    done = clean(MergeArithmetic(), build(chain(first, second), **WEIGHTS))
    assert done.outcome.changes == 0
    assert "leaves the range" in done.reasons


@pytest.mark.parametrize(("first", "second"), [("Add(x, shift)", "Sub(a, shift)"), ("Sub(x, shift)", "Add(shift, a)")])
def test_rounding_by_a_large_constant_stays(build, clean, first, second):
    done = clean(MergeArithmetic(), build(chain(first, second), **WEIGHTS))
    assert done.outcome.changes == 0
    assert "rounds to whole numbers" in done.reasons


def test_bounds_as_attributes_in_an_older_function_are_no_absent_bounds(build, apply):
    function = (
        '<opset_import: ["": 10], domain: "local"> limit (a) => (c) '
        "{ b = Clip<min = 0.0, max = 6.0>(a) c = Clip<min = 1.0, max = 2.0>(b) }"
    )
    model = build("(float[2] x) => (float[2] y) { y = local.limit(x) }", functions=function)
    assert apply(MergeClips(), model).changes == 0


def test_a_graph_output_keeps_its_name(build, clean):
    model = build("(float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Clip(a, , six) }", **WEIGHTS)
    done = clean(MergeClips(), model)
    assert [value.name for value in done.model.graph.outputs] == ["y"]
    assert [float(constant(value)) for value in done.model.graph[0].inputs[1:]] == [0, 6]


def test_one_unknown_size_becomes_minus_one(build, clean):
    model = build("(float[n,2,3] x) => (float[n,6] y) { a = Unsqueeze(x, i0) b = Reshape(a, t) y = Flatten(b) }",
                  t=np.array([-1, 3, 2]), **WEIGHTS)  # fmt: skip
    done = clean(MergeReshapes(), model)
    assert done.ops == ["Reshape"]
    assert constant(done.model.graph[0].inputs[1]).tolist() == [-1, 6]


@pytest.mark.parametrize(("sizes", "left"), [("n,1,5", ["Reshape"]), ("n,2,5", ["Transpose", "Reshape"])])
def test_a_transpose_that_only_moves_an_axis_of_one_is_a_reshape(build, clean, sizes, left):
    model = build(
        f"(float[{sizes}] x) => (float[m] y) {{ a = Transpose<perm=[0,2,1]>(x) y = Reshape(a, flat) }}", **WEIGHTS
    )
    assert clean(MergeReshapes(), model).ops == left


@pytest.mark.parametrize("rule", [MergeClips(), MergeSlices(), MergePads(), MergeReshapes()])
def test_operator_sets_that_express_operands_as_attributes_are_refused(build, rule):
    model = build("(float[2,3] x) => (float[2,3] y) { y = Relu(x) }", opset=4)
    refusal = rule.refuse(model, None)
    assert refusal is not None
    assert "as attributes" in refusal.why
    assert rule.refuse(build("(float[2,3] x) => (float[2,3] y) { y = Relu(x) }"), None) is None


def test_concats_merge_where_there_are_many(build, clean):
    model = build("(float[2,3] x) => (float[2,m] y) { a = Concat<axis=1>(x, x) b = Concat<axis=1>(a, x) "
                  "c = Concat<axis=1>(x, x) y = Concat<axis=1>(b, c) }")  # fmt: skip
    done = clean(MergeConcats(), model)
    assert done.ops == ["Concat"]
    assert len(done.model.graph[0].inputs) == 5
