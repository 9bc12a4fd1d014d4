"""shape_arithmetic: sizes are followed through the operators that compute shapes."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.ir import constant
from graphpress.passes.cleanup.dce import DeadCodeElimination
from graphpress.passes.cleanup.shape_arithmetic import ShapeArithmetic

WEIGHTS = {"i0": np.array(0), "i1": np.array(1), "v0": np.array([0]), "v1": np.array([1]), "v2": np.array([2]),
           "v3": np.array([3]), "minus": np.array([-1]), "pick": np.array([3, 1]), "two": np.array([2])}  # fmt: skip


@pytest.mark.parametrize(
    "nodes",
    [
        "s = Shape(x)",
        "t = Shape(x) s = Gather(t, pick)",
        "t = Shape<start=1, end=3>(x) s = Mul(t, two)",
        "t = Shape(x) u = Slice(t, v1, v3) c = Cast<to=6>(u) d = Cast<to=7>(c) s = Concat<axis=0>(d, v2)",
        "t = Size(x) u = Unsqueeze(t, v0) s = Div(u, two)",
    ],
)
def test_known_shapes_become_constants(build, clean, nodes):
    model = build(
        f"(float[2,3,4,5] x) => (float y) {{ {nodes} f = Cast<to=1>(s) y = ReduceSum<keepdims=0>(f) }}", **WEIGHTS
    )
    done = clean(ShapeArithmetic(), model)
    assert done.ops == ["Cast", "ReduceSum"]


def test_known_sizes_of_a_partly_known_shape_become_constants(build, clean):
    model = build(
        "(float[n,3,h,5] x) => (float y) "
        "{ s = Shape(x) k = Gather(s, pick) f = Cast<to=1>(k) y = ReduceSum<keepdims=0>(f) }",
        **WEIGHTS,
    )
    assert clean(DeadCodeElimination(), clean(ShapeArithmetic(), model).model).ops == ["Cast", "ReduceSum"]


@pytest.mark.parametrize(
    ("nodes", "target"),
    [
        ("b = Gather(s, i0) u = Unsqueeze(b, v0) t = Concat<axis=0>(u, minus)", [0, -1]),
        ("b = Gather(s, v0) t = Concat<axis=0>(b, v2, v3, two)", [0, 2, 3, 2]),
        ("b = Gather(s, v0) d = Mul(b, two) e = Add(d, d) t = Concat<axis=0>(v3, e)", [3, -1]),
        ("b = Gather(s, v0) t = Concat<axis=0>(v3, two, two, b)", [3, 2, 2, -1]),
    ],
)
def test_targets_with_one_unknown_size_become_constant(build, clean, nodes, target):
    model = build(
        f"(float[n,2,3,2] x) => (float[a,b] y) {{ s = Shape(x) {nodes} r = Reshape(x, t) y = Flatten(r) }}", **WEIGHTS
    )
    done = clean(DeadCodeElimination(), clean(ShapeArithmetic(), model).model)
    assert done.ops == ["Reshape", "Flatten"]
    assert constant(done.model.graph[0].inputs[1]).tolist() == target


def test_a_target_with_two_unknown_sizes_stays(build, clean):
    model = build(
        "(float[n,m] x, float[p] z) => (float[a,b] y) { s = Shape(z) q = Shape(x) c = Gather(s, v0) d = Mul(c, two) "
        "e = Gather(q, v1) f = Div(e, v1) t = Concat<axis=0>(c, f) y = Expand(x, t) w = Concat<axis=0>(d, f) }",
        **WEIGHTS,
    )
    assert (
        clean(
            ShapeArithmetic(), model, feed={"x": np.ones((1, 3), np.float32), "z": np.ones(3, np.float32)}
        ).outcome.changes
        == 0
    )
    model = build(
        "(float[n,m,k] x, float[p] z) => (float[a,b] y) { s = Shape(x) c = Gather(s, v1) d = Gather(s, v2) "
        "e = Gather(s, v0) f = Mul(e, d) t = Concat<axis=0>(c, f) y = Reshape(x, t) }",
        **WEIGHTS,
    )
    assert clean(ShapeArithmetic(), model).outcome.changes == 0


def test_zero_is_taken_literally_where_the_model_says_so(build, clean):
    model = build(
        "(float[n,2] x) => (float[a,b] y) "
        "{ s = Shape(x) b = Gather(s, v0) t = Concat<axis=0>(b, two) y = Reshape<allowzero=1>(x, t) }",
        **WEIGHTS,
    )
    assert clean(ShapeArithmetic(), model).outcome.changes == 0


def test_shapes_of_outer_values_are_known_inside(build, clean):
    model = build(
        "(float[2,3] x, bool c) => (float[n,m] y) { y = If(c)"
        "<then_branch = t () => (float[a,b] p) { s = Shape(x) p = Expand(x, s) }, "
        "else_branch = e () => (float[a,b] q) { q = Neg(x) }> }"
    )
    done = clean(ShapeArithmetic(), model)
    assert [[node.op_type for node in graph] for graph in done.model.graph.subgraphs()] == [["Expand"], ["Neg"]]


def test_integers_that_wrap_round_are_left_to_the_runtime(build, apply, run):
    model = build(
        "(float[2] x) => (int64[n] y, int64[m] z) { a = BitwiseAnd(small, small) "
        "s = Add(large, one) y = Mul(s, one) d = Mul(narrow, narrow) z = Cast<to=7>(d) }",
        opset=18, small=np.array([3], np.uint8), large=np.array([2**63 - 1]), one=np.array([1]),
        narrow=np.array([1 << 20], np.int32),
    )  # fmt: skip
    before = run(model)
    apply(ShapeArithmetic(), model)
    for name, array in run(model).items():
        np.testing.assert_array_equal(array, before[name])
