"""cse: equal nodes and equal constants, compared exactly."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.passes.cleanup.cse import CommonSubexpressionElimination
from graphpress.passes.cleanup.fold_constants import FoldConstants


def test_whole_equal_branches_merge_in_one_walk(build, clean):
    model = build(
        "(float[2,2] x) => (float[2,2] y) "
        "{ a = Mul(x, v) b = Softmax<axis=1>(a) c = Mul(x, w) d = Softmax<axis=1>(c) y = Add(b, d) }",
        v=np.array([2, 3], np.float32),
        w=np.array([2, 3], np.float32),
    )
    done = clean(CommonSubexpressionElimination(), model)
    assert done.ops == ["Mul", "Softmax", "Add"]
    assert list(done.model.graph.initializers) == ["v"]
    assert done.outcome.changes == 3


def test_operands_of_a_commutative_operator_may_be_swapped(build, clean):
    model = build("(float[2] x, float[2] z) => (float[2] y) { a = Add(x, z) b = Add(z, x) y = Mul(a, b) }")
    assert clean(CommonSubexpressionElimination(), model).ops == ["Add", "Mul"]
    model = build("(float[2] x, float[2] z) => (float[2] y) { a = Sub(x, z) b = Sub(z, x) y = Mul(a, b) }")
    assert clean(CommonSubexpressionElimination(), model).ops == ["Sub", "Sub", "Mul"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Softmax<axis=0>(x)", "Softmax<axis=1>(x)"),
        ("LeakyRelu<alpha=0.1>(x)", "LeakyRelu<alpha=0.2>(x)"),
        ("Cast<to=1>(x)", "Cast<to=10>(x)"),
        ("ConstantOfShape<value = float {0.0}>(s)", "ConstantOfShape<value = float {-0.0}>(s)"),
        ("RandomUniformLike(x)", "RandomUniformLike(x)"),
    ],
)
def test_what_differs_or_is_random_stays_apart(build, apply, one, other):
    model = build(
        f"(float[2,2] x) => (float[n,n] y) {{ a = {one} b = {other} c = Cast<to=1>(b) y = Mul(a, c) }}",
        s=np.array([2, 2]),
    )
    assert apply(CommonSubexpressionElimination(), model).changes == 0


def test_signs_of_zero_and_bits_of_nan_keep_constants_apart(build, clean):
    model = build(
        "(float[2] x) => (float[2] y) { a = Add(x, p) b = Add(a, m) y = Add(b, p2) }",
        p=np.array([0.0, 1], np.float32), m=np.array([-0.0, 1], np.float32), p2=np.array([0.0, 1], np.float32),
    )  # fmt: skip
    assert sorted(clean(CommonSubexpressionElimination(), model).model.graph.initializers) == ["m", "p"]


def test_constants_that_differ_late_stay_apart(build, clean):
    one = np.zeros(1000, np.float32)
    other = one.copy()
    other[-1] = 1
    model = build("(float[1000] x) => (float[1000] y) { a = Add(x, p) y = Add(a, q) }", p=one, q=other)
    assert clean(CommonSubexpressionElimination(), model).outcome.changes == 0


def test_two_equal_outputs_stay_two_and_one_keeps_its_name(build, clean):
    model = build("(float[2] x) => (float[2] y, float[2] z) { y = Exp(x) z = Exp(x) }")
    assert clean(CommonSubexpressionElimination(), model).outcome.changes == 0
    done = clean(
        CommonSubexpressionElimination(),
        build("(float[2] x) => (float[2] y, float[2] z) { a = Exp(x) y = Neg(a) z = Exp(x) }"),
    )
    assert done.ops == ["Exp", "Neg"]


def test_a_subgraph_reuses_what_the_graph_around_it_has(build, clean):
    model = build(
        "(float[2] x, bool c) => (float[2] y, float[2] z) { z = Exp(x) "
        "y = If(c)<then_branch = t () => (float[2] a) { e = Exp(x) a = Add(e, k) }, "
        "else_branch = e () => (float[2] b) { f = Exp(x) b = Neg(f) }> }",
        k=np.ones(2, np.float32),
    )
    done = clean(CommonSubexpressionElimination(), model)
    assert [[node.op_type for node in graph] for graph in done.model.graph.subgraphs()] == [["Add"], ["Neg"]]


def test_branches_do_not_see_each_other(build, clean):
    model = build(
        "(float[2] x, bool c) => (float[2] y) "
        "{ y = If(c)<then_branch = t () => (float[2] a) { e = Exp(x) a = Abs(e) }, "
        "else_branch = e () => (float[2] b) { f = Exp(x) b = Neg(f) }> }"
    )
    assert clean(CommonSubexpressionElimination(), model).outcome.changes == 0


@pytest.mark.parametrize(("size", "lifted"), [(256, True), (2, False)])
def test_what_branches_hold_each_for_itself_is_stored_once_around_them(size, lifted, build, clean):
    def branch(name, op, number):
        weight = f"w = Constant<value = float[{size}] {{{', '.join(map(str, range(size)))}}}>()"
        return f"{name} = g{number} () => (float[{size}] o{number}) {{ {weight} o{number} = {op}(x, w) }}"

    model = build(
        f"(float[{size}] x, bool c, bool d) => (float[{size}] y) {{ "
        f"r = If(d)<{branch('then_branch', 'Add', 1)}, {branch('else_branch', 'Mul', 2)}> "
        f"s = If(c)<{branch('then_branch', 'Sub', 3)}, {branch('else_branch', 'Max', 4)}> y = Add(r, s) }}"
    )
    done = clean(CommonSubexpressionElimination(), clean(FoldConstants(), model).model)
    assert [len(graph.initializers) for graph in done.model.graph.subgraphs()] == [0 if lifted else 1] * 4
    assert len(done.model.graph.initializers) == lifted
    assert done.outcome.changes == 3 * lifted


def test_annotated_values_and_quantizers_stay_apart(build, clean):
    model = build(
        "(float[2] x) => (float[2] y) { a = QuantizeLinear(x, s, z) b = QuantizeLinear(x, s, z) "
        "c = DequantizeLinear(a, s, z) d = DequantizeLinear(b, s, z) e = Exp(x) f = Exp(x) y = Sum(c, d, e, f) }",
        s=np.array(1, np.float32),
        z=np.array(0, np.uint8),
    )
    next(node for node in model.graph if node.op_type == "Exp").outputs[0].metadata_props["graphpress.encoding"] = "{}"
    assert clean(CommonSubexpressionElimination(), model).outcome.changes == 0
