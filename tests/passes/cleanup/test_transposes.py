"""merge_transposes, cancel_transposes, sink_transposes: data moves once or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.ir import constant, static_shape
from graphpress.passes.cleanup._layout import reordered
from graphpress.passes.cleanup.cancel_transposes import CancelTransposes
from graphpress.passes.cleanup.merge_transposes import MergeTransposes
from graphpress.passes.cleanup.remove_noop_layout import RemoveNoopLayout
from graphpress.passes.cleanup.sink_transposes import SinkTransposes

TO_LAST, TO_FIRST = "Transpose<perm=[0,2,3,1]>", "Transpose<perm=[0,3,1,2]>"
WEIGHTS = {"c": np.array([1, 2], np.float32), "k": np.arange(24, dtype=np.float32).reshape(1, 3, 4, 2),
           "low": np.array(0, np.float32), "high": np.array(2, np.float32)}  # fmt: skip


def nchw(nodes: str, output: str = "float[1,2,3,4] y") -> str:
    return f"(float[1,2,3,4] x) => ({output}) {{ {nodes} }}"


def test_two_transposes_compose(build, clean):
    done = clean(
        MergeTransposes(),
        build(nchw(f"a = {TO_LAST}(x) y = {TO_LAST}(a)", "float[1,3,4,2] y").replace("[1,3,4,2] y", "[1,4,2,3] y")),
    )
    assert done.ops == ["Transpose"]
    assert tuple(done.model.graph[0].attributes["perm"].as_ints()) == (0, 3, 1, 2)


def test_a_default_order_is_the_reverse(build, clean):
    done = clean(
        MergeTransposes(),
        build("(float[2,3,4] x) => (float[2,3,4] y) { a = Transpose(x) b = Transpose(a) y = Neg(b) }"),
    )
    assert clean(RemoveNoopLayout(), done.model).ops == ["Neg"]


def test_the_first_stays_where_others_read_it(build, clean):
    model = build(
        nchw(f"a = {TO_LAST}(x) b = {TO_FIRST}(a) y = Neg(b) z = Neg(a)", "float[1,2,3,4] y, float[1,3,4,2] z")
    )
    assert clean(MergeTransposes(), model).ops == ["Transpose", "Transpose", "Neg", "Neg"]


def test_transposes_cancel_around_elementwise_operators(build, clean):
    model = build(
        nchw(f"a = {TO_LAST}(x) b = Mul(a, c) d = Add(k, b) e = Clip(d, low, high) f = {TO_FIRST}(e) y = Neg(f)"),
        **WEIGHTS,
    )
    done = clean(CancelTransposes(), model)
    assert [static_shape(value) for node in done.model.graph for value in node.outputs] == [(1, 2, 3, 4)] * 5
    assert clean(RemoveNoopLayout(), done.model).ops == ["Mul", "Add", "Clip", "Neg"]


def test_a_shared_constant_is_not_changed_for_others(build, clean):
    model = build(
        nchw(f"a = {TO_LAST}(x) b = Mul(a, c) y = {TO_FIRST}(b) z = Add(c, low)", "float[1,2,3,4] y, float[2] z"),
        **WEIGHTS,
    )
    done = clean(CancelTransposes(), model)
    assert constant(done.model.graph.initializers["c"]).shape == (2,)


@pytest.mark.parametrize(
    "nodes",
    [
        f"a = {TO_LAST}(x) b = Softmax<axis=3>(a) y = {TO_FIRST}(b)",
        f"a = {TO_LAST}(x) z = Relu(a) y = {TO_FIRST}(z)",
        f"a = {TO_LAST}(x) b = Relu(a) s = ReduceSum<keepdims=0>(x) d = Add(b, s) y = {TO_FIRST}(d)",
    ],
)
def test_what_must_not_move_stays(build, clean, nodes):
    outputs = "float[1,2,3,4] y" + (", float[1,3,4,2] z" if " z " in nodes else "")
    assert clean(CancelTransposes(), build(nchw(nodes, outputs))).outcome.changes == 0


def test_equal_transposes_sink_below_an_operator(build, clean):
    model = build(
        "(float[1,2,3,4] x, float[1,2,3,4] u) => (float[1,3,4,2] y) "
        f"{{ a = {TO_LAST}(x) b = {TO_LAST}(u) y = Sum(a, b, c) }}",
        **WEIGHTS,
    )
    assert clean(SinkTransposes(), model).ops == ["Sum", "Transpose"]


def test_the_axis_of_a_concat_moves_along(build, clean):
    model = build(
        "(float[1,2,3,4] x, float[1,2,3,5] u) => (float[1,3,9,2] y) "
        f"{{ a = {TO_LAST}(x) b = {TO_LAST}(u) y = Concat<axis=2>(a, b) }}"
    )
    done = clean(SinkTransposes(), model)
    assert done.ops == ["Concat", "Transpose"]
    assert done.model.graph[0].attributes["axis"].as_int() == 3


@pytest.mark.parametrize(
    "nodes",
    [
        f"a = {TO_LAST}(x) b = {TO_FIRST}(x) d = Concat<axis=0>(a, w) e = Neg(b) y = ReduceSum<keepdims=0>(d)",
        f"a = {TO_LAST}(x) d = Add(a, k) y = ReduceSum<keepdims=0>(d)",
        f"a = {TO_LAST}(x) b = {TO_LAST}(u) s = ReduceSum<keepdims=0>(x) d = Sum(a, b, s) y = ReduceSum<keepdims=0>(d)",
        f"a = {TO_LAST}(x) b = Transpose<perm=[0,3,2,1]>(v) d = Concat<axis=0>(a, b) y = ReduceSum<keepdims=0>(d)",
    ],
)
def test_what_saves_nothing_does_not_sink(build, clean, nodes):
    model = build(
        f"(float[1,2,3,4] x, float[1,2,4,3] v) => (float y) {{ u = Relu(x) {nodes} }}",
        w=np.ones((1, 3, 4, 2), np.float32),
        **WEIGHTS,
    )
    assert clean(SinkTransposes(), model).outcome.changes == 0


@settings(max_examples=50, deadline=None)
@given(order=st.permutations(range(4)), axes=st.integers(0, 4))
def test_a_reordered_constant_broadcasts_the_same(order, axes):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 3, 4, 5))
    beside = random.normal(size=np.transpose(x, order).shape[axes:])
    expected = np.transpose(x, order) * beside
    np.testing.assert_array_equal(np.transpose(x * reordered(np.asarray(beside), order), order), expected)


def test_a_constant_with_more_axes_parts_transposes(build, clean):
    text = "(float[2,3] x) => (float[n,m,k] y) { a = Transpose(x) b = Add(a, c) y = Transpose<perm=[0,2,1]>(b) }"
    assert clean(CancelTransposes(), build(text, c=np.ones((1, 1, 2), np.float32))).outcome.changes == 0


def test_an_empty_constant_takes_the_other_order_too(build, clean):
    text = "(float[2,0] x) => (float[2,0] y) { a = Transpose(x) b = Add(a, c) y = Transpose(b) }"
    assert clean(CancelTransposes(), build(text, c=np.ones((0, 2), np.float32))).outcome.changes == 1
