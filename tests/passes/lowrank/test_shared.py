"""Weights that several layers read become the same factors for all; layers of subgraphs are decomposed in place."""

import numpy as np
import pytest
from text_models import model_of

from graphpress.analysis.cost import model_cost
from graphpress.ir import clone, verify
from graphpress.ir.values import with_subgraphs
from graphpress.manager.contract import Context
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return (RANDOM.normal(size=shape) * 0.3).astype(np.float32)


def low(rows, columns, rank=2):
    return normal(rows, rank) @ normal(rank, columns)


def apply(lowrank, model, feeds=None, **context):
    """A copy with the pass run on it, and what it says."""
    changed = clone(model)
    outcome = lowrank.run(changed, Context(target=load_target("cpu"), original=model, calibration=feeds, **context))
    verify(changed)
    return changed, outcome


def outputs(model, feed):
    return Session(model).run(feed)["y"]


def feed_of(model, count=6):
    shape = [dim if isinstance(dim, int) else count for dim in model.graph.inputs[0].shape]
    return {"x": RANDOM.normal(size=shape).astype(np.float32)}


PRODUCTS = "(float[N,12] x) => (float[N,12] y) { a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, w) }"
SIAMESE = """(float[N,4,8,8] x) => (float[N,10,8,8] y) {
    p = Conv<pads=[1,1,1,1]>(x, w, b)  n = Neg(x)
    q = Conv<dilations=[2,2], pads=[2,2,2,2]>(n, w, c)  y = Mul(p, q) }"""
GEMMS = """(float[N,12] x) => (float[N,9] y) {
    p = Gemm<transB=1>(x, w, b)  n = Relu(x)  q = Gemm<transB=1>(n, w)  y = Add(p, q) }"""
SHARED = {
    "products": (PRODUCTS, {"w": low(12, 12)}, 2 * 24),
    "siamese": (SIAMESE, {"w": low(10, 36, 1).reshape(10, 4, 3, 3), "b": normal(10), "c": normal(10)}, 112),
    "gemms": (GEMMS, {"w": low(9, 12), "b": normal(9)}, 2 * (12 + 9) + 9),
}


@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("name", SHARED)
def test_layers_of_one_weight_share_its_factors(name, with_data):
    text, weights, parameters = SHARED[name]
    model = model_of(text, **weights)
    feed = feed_of(model)
    changed, outcome = apply(LowRank(rank=0.2, multiple=1, method="svd"), model, [feed] if with_data else None)
    assert outcome.changes == 1, outcome.refusals
    assert outcome.notes[0].startswith("2 layers of 1 weight decomposed")
    np.testing.assert_allclose(outputs(changed, feed), outputs(model, feed), atol=1e-4)
    assert model_cost(changed).parameters == parameters
    factors = [node for node in changed.graph if node.op_type in ("MatMul", "Gemm", "Conv")]
    assert len(factors) == 4
    assert len({node.inputs[1] for node in factors}) == 2
    assert apply(LowRank(rank=0.2, multiple=1, method="svd"), changed)[1].changes == 0


def test_the_norm_is_that_of_all_that_the_layers_read():
    """The optimum for the rows of both layers together."""
    weight = normal(12, 12)
    text = """(float[N,12] x, float[N,12] z) => (float[N,12] y) {
        p = MatMul(x, w)  q = MatMul(z, w)  r = Relu(p)  y = Mul(r, q) }"""
    scales = np.logspace(0, -2, 12).astype(np.float32)
    feed = {"x": normal(400, 12) * scales, "z": normal(400, 12) * scales[::-1]}
    changed, outcome = apply(LowRank(rank=0.4, multiple=1), model_of(text, w=weight), [feed])
    assert outcome.changes == 1
    first, last = (node.inputs[1].const_value.numpy() for node in list(changed.graph)[:2])
    rows = np.concatenate([feed["x"], feed["z"]]).astype(float)
    leading = np.linalg.svd(rows @ weight, full_matrices=False)[2][: first.shape[1]]
    best = np.linalg.norm(rows @ (weight - weight @ leading.T @ leading))
    assert np.linalg.norm(rows @ (weight - first @ last)) < 1.1 * best


def test_costs_and_goals_count_a_shared_weight_once():
    model = model_of(PRODUCTS, w=normal(12, 12))
    changed, _ = apply(LowRank(params_kept=0.5, multiple=1), model, [feed_of(model)])
    assert 0 < model_cost(changed).parameters <= 0.5 * model_cost(model).parameters
    assert model_cost(changed).macs <= 0.5 * model_cost(model).macs


def test_a_shared_choice_is_recorded_and_followed():
    model, decisions = model_of(PRODUCTS, w=low(12, 12, 4) + 0.1 * normal(12, 12)), {}
    feed = feed_of(model)
    changed, _ = apply(LowRank(energy=0.8, multiple=1), model, [feed], decisions=decisions)
    replayed, outcome = apply(LowRank(energy=0.8, multiple=1), model, [feed], decisions=dict(decisions))
    assert outcome.changes == 1
    np.testing.assert_array_equal(outputs(changed, feed), outputs(replayed, feed))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(float[N,12] x) => (float[N,12] y) { a = MatMul(x, w)  y = Gemm<transB=1>(a, w) }", "in different ways"),
        ("(float[N,12] x) => (float[N,12] y) { a = MatMul(x, w)  b = Relu(w)  y = MatMul(a, b) }", "another reader"),
        ("(float[N,12] x) => (float[N,12] y, float[12,12] w) { y = MatMul(x, w) }", "result of the model"),
    ],
)
def test_a_weight_that_cannot_be_shared_stays(text, why):
    _, outcome = apply(LowRank(rank=0.2, multiple=1), model_of(text, w=normal(12, 12)))
    assert outcome.changes == 0
    assert any(why in refusal.why for refusal in outcome.refusals)


def test_a_weight_stays_where_one_of_its_layers_is_left_alone():
    _, outcome = apply(LowRank(rank=0.2, multiple=1, layers="MatMul_a"), model_of(PRODUCTS, w=normal(12, 12)))
    assert outcome.changes == 0


BRANCHES = """(float[4,12] x, bool c) => (float[4,12] y) {
    y = If (c) <
        then_branch = g1 () => (float[4,12] t) { t = MatMul(x, w) },
        else_branch = g2 () => (float[4,12] e) { h = MatMul(x, v)  e = Relu(h) }
    > }"""
LOOP = """(int64 n, bool go, float[4,12] x) => (float[4,12] y) {
    y = Loop (n, go, x) <
        body = g (int64 i, bool keep, float[4,12] s) => (bool again, float[4,12] next) {
            again = Identity(keep)  h = MatMul(s, w)  next = Tanh(h) }
    > }"""
BESIDE = """(float[4,12] x, bool c) => (float[4,12] y) {
    m = MatMul(x, w)
    z = If (c) <
        then_branch = g1 () => (float[4,12] t) { t = MatMul(m, w) },
        else_branch = g2 () => (float[4,12] e) { e = Relu(m) }
    >
    y = Add(z, x) }"""
BODIES = {
    "branches": (BRANCHES, {"c": np.array(True)}, 2),
    "loop": (LOOP, {"n": np.array(3), "go": np.array(True)}, 1),
    "shared with a branch": (BESIDE, {"c": np.array(True)}, 1),
}


@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("name", BODIES)
def test_layers_of_subgraphs_are_decomposed_in_the_norm_of_their_weights(name, with_data):
    text, extra, changes = BODIES[name]
    model = model_of(text, w=low(12, 12), **({"v": low(12, 12)} if name == "branches" else {}))
    feed = {"x": normal(4, 12), **extra}
    changed, outcome = apply(LowRank(rank=0.2, multiple=1), model, [feed] if with_data else None)
    assert outcome.changes == changes, outcome.refusals
    assert any("their weights" in note for note in outcome.notes) or name == "shared with a branch"
    np.testing.assert_allclose(outputs(changed, feed), outputs(model, feed), atol=1e-4)
    assert model_cost(changed).parameters == changes * 2 * 24
    products = [node for graph in with_subgraphs(changed.graph) for node in graph if node.op_type == "MatMul"]
    assert len(products) == 2 * (2 if name != "loop" else 1)
    assert apply(LowRank(rank=0.2, multiple=1), changed)[1].changes == 0


def test_goals_count_layers_of_subgraphs():
    model = model_of(BRANCHES, w=normal(12, 12), v=normal(12, 12))
    changed, _ = apply(LowRank(macs_kept=0.5, multiple=1), model)
    assert model_cost(changed).macs <= 0.5 * model_cost(model).macs
