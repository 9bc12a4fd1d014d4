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


def test_zero_is_taken_literally_where_the_model_says_so(build, apply):
    model = build(
        "(float[n,2] x) => (float[a,b] y) "
        "{ s = Shape(x) b = Gather(s, v0) t = Concat<axis=0>(v0, b) y = Reshape<allowzero=1>(x, t) }",
        **WEIGHTS,
    )
    apply(ShapeArithmetic(), model)
    assert [node.op_type for node in model.graph] == ["Shape", "Gather", "Concat", "Reshape"]
    assert model.graph[-1].attributes["allowzero"].as_int() == 1


@pytest.mark.parametrize("batch", [0, 3])
def test_a_size_of_the_operand_is_copied_where_zero_is_literal_too(build, clean, run, batch):
    model = build(
        "(float[n,6] x) => (float[a,b,c] y) "
        "{ s = Shape(x) b = Gather(s, v0) t = Concat<axis=0>(b, two, v3) y = Reshape<allowzero=1>(x, t) }",
        **WEIGHTS,
    )
    feed = {"x": np.ones((batch, 6), np.float32)}
    expected = run(model, feed)
    done = clean(DeadCodeElimination(), clean(ShapeArithmetic(), model).model)
    assert done.ops == ["Reshape"]
    assert run(done.model, feed)["y"].shape == expected["y"].shape == (batch, 2, 3)


EXPAND = (  # as PyTorch writes it: sizes of -1 are kept
    "s = Shape(x) n = Gather(s, v0) h = Gather(s, v1) d = Gather(s, v3) l = Gather(s, v2) u = Unsqueeze(x, v2) "
    "t = Concat<axis=0>(n, h, two, l, d) m = Mul(ones, minus) e = Equal(t, m) w = Where(e, ones, t) "
    "z = Expand(u, w) k = Mul(h, two) r = Concat<axis=0>(n, k, l, d) q = Reshape(z, r) y = Neg(q)"
)


@pytest.mark.parametrize(
    ("dims", "nodes", "value", "shape"),
    [
        ("n,2,l,8", EXPAND, "z", ["n", 2, 2, "l", 8]),
        ("n,2,l,8", EXPAND, "q", ["n", 4, "l", 8]),
        ("n,l,8", "t = Shape(x) k = Slice(t, v0, v2) u = Concat<axis=0>(k, minus, two) q = Reshape(x, u) y = Neg(q)",
         "q", ["n", "l", 4, 2]),
        ("n,2,l,8", "s = Shape(x) l = Gather(s, v2) t = Concat<axis=0>(minus, l, v8) q = Reshape(x, t) "
         "w = Transpose<perm=[0,2,1]>(q) b = Slice(s, v0, v2) c = Concat<axis=0>(b, v8, l) z = Reshape(w, c) "
         "y = Neg(z)",
         "z", ["n", 2, 8, "l"]),
        ("n,l,3", "s = Shape(x) n = Gather(s, v0) t = Concat<axis=0>(minus, v3) q = Reshape(x, t) "
         "u = Concat<axis=0>(n, minus, v3) z = Reshape(q, u) y = Neg(z)", "z", ["n", None, 3]),
    ],
)  # fmt: skip
def test_sizes_of_results_are_named(build, clean, dims, nodes, value, shape):
    rank = ",".join("abcde"[: len(shape)])
    model = build(
        f"(float[{dims}] x) => (float[{rank}] y) {{ {nodes} }}", **WEIGHTS, ones=np.ones(5, np.int64), v8=np.array([8])
    )
    done = clean(ShapeArithmetic(), model).model
    found = next(output for node in done.graph for output in node.outputs if output.name == value)
    named = [dim if isinstance(dim, int) or dim.value in ("n", "l") else None for dim in found.shape]
    assert named == shape


def test_names_go_on_behind_what_was_named(build, clean):
    """Each Reshape takes its sizes from the result of the last, where inference alone knows none."""
    layers = "".join(
        f"s{i} = Shape(x{i}) n{i} = Gather(s{i}, v0) l{i} = Gather(s{i}, v1) "
        f"t{i} = Concat<axis=0>(n{i}, l{i}, minus, two) r{i} = Reshape(x{i}, t{i}) a{i} = Relu(r{i}) "
        f"b{i} = Concat<axis=0>(n{i}, l{i}, minus) x{i + 1} = Reshape(a{i}, b{i}) "
        for i in range(3)
    )
    model = build(f"(float[n,l,8] x0) => (float[a,b,c] y) {{ {layers} y = Neg(x3) }}", **WEIGHTS)
    done = clean(ShapeArithmetic(), model).model
    assert str(done.graph[-1].inputs[0].shape) == "[n,l,8]"


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
