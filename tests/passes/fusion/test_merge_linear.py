"""Layers in line become one where that has no more weights, and compute the same."""

import numpy as np
import pytest

from graphpress.analysis.cost import model_cost
from graphpress.ir.sparsity import Sparsity, set_sparsity
from graphpress.passes.fusion.merge_linear import MergeLinear

GENERATOR = np.random.default_rng(7)


def normal(*shape):
    return GENERATOR.normal(size=shape).astype(np.float32)


CHAINS = {
    "1x1 then k×k, which pads": ("h = Conv(x, v)  y = Conv<pads=[1,1,1,1], strides=[2,1], dilations=[1,2]>(h, w, b)",
        {"v": normal(9, 6, 1, 1), "w": normal(5, 9, 3, 3), "b": normal(5)}),
    "1x1 with stride and bias, then k×k": ("h = Conv<strides=[2,2]>(x, v, a)  y = Conv(h, w)",
        {"v": normal(9, 6, 1, 1), "a": normal(9), "w": normal(5, 9, 2, 2)}),
    "1x1 with stride, then k×k, which pads": ("h = Conv<strides=[2,3]>(x, v)  y = Conv<pads=[1,0,2,1]>(h, w)",
        {"v": normal(9, 6, 1, 1), "w": normal(5, 9, 3, 3)}),
    "k×k then 1x1": (
        "h = Conv<pads=[1,1,1,1], strides=[2,2], dilations=[2,2]>(x, v, a)  y = Conv<strides=[1,2]>(h, w, b)",
        {"v": normal(9, 6, 3, 3), "a": normal(9), "w": normal(5, 9, 1, 1), "b": normal(5)}),
    "a column, then a row": ("h = Conv<pads=[1,0,1,0]>(x, v)  y = Conv<pads=[0,1,0,1]>(h, w)",
        {"v": normal(20, 6, 3, 1), "w": normal(5, 20, 1, 3)}),
    "groups": ("h = Conv<group=2>(x, v)  y = Conv<group=4>(h, w, b)",
        {"v": normal(16, 3, 1, 1), "w": normal(8, 4, 3, 1), "b": normal(8)}),
    "four in line": (
        "h = Conv(x, v)  i = Conv<group=40>(h, s)  j = Conv<group=40, pads=[0,1,0,1]>(i, t)  y = Conv(j, w)",
        {"v": normal(40, 6, 1, 1), "s": normal(40, 1, 3, 1), "t": normal(40, 1, 1, 3), "w": normal(5, 40, 1, 1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_convolutions_become_one(build, fuse, name):
    nodes, weights = CHAINS[name]
    model = build(f"(float[2,6,11,12] x) => (float y) {{ {nodes} }}", **weights)
    fused = fuse(MergeLinear(), model)
    assert fused.ops == ["Conv"]
    assert model_cost(fused.model).macs <= model_cost(model).macs


@pytest.mark.parametrize(
    ("nodes", "ops"),
    [
        ("h = MatMul(x, v)  y = MatMul(h, w)", ["MatMul"]),
        ("h = Gemm(x, v, a)  y = Gemm<transB=1, alpha=0.5, beta=2.0>(h, u, b)", ["Gemm"]),
        ("h = MatMul(x, v)  y = Gemm(h, w, b)", ["Gemm"]),
        ("h = Gemm(x, v, a)  y = MatMul(h, w)", ["Gemm"]),
        ("h = MatMul(x, v)  i = MatMul(h, s)  y = MatMul(i, w)", ["MatMul"]),
    ],
)
def test_products_become_one(build, fuse, nodes, ops):
    weights = {
        "v": normal(6, 9),
        "a": normal(9),
        "s": normal(9, 9),
        "w": normal(9, 5),
        "u": normal(5, 9),
        "b": normal(5),
    }
    assert fuse(MergeLinear(), build(f"(float[4,6] x) => (float y) {{ {nodes} }}", **weights)).ops == ops


def test_factors_that_save_something_stay(build, fuse):
    text = "(float[4,6] x) => (float y) { h = MatMul(x, v)  y = MatMul(h, w) }"
    assert fuse(MergeLinear(), build(text, v=normal(6, 2), w=normal(2, 5))).ops == ["MatMul", "MatMul"]


def test_of_a_run_the_part_that_does_not_pay_is_merged(build, fuse):
    text = "(float[4,20] x) => (float y) { h = MatMul(x, u)  i = MatMul(h, v)  y = MatMul(i, w) }"
    fused = fuse(MergeLinear(), build(text, u=normal(20, 3), v=normal(3, 9), w=normal(9, 20)))
    assert fused.ops == ["MatMul", "MatMul"]
    assert model_cost(fused.model).parameters == 20 * 3 + 3 * 20


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("h = Conv(x, v, a)  y = Conv<pads=[1,1,1,1]>(h, w)", "pads with zeros"),
        ('h = Conv(x, v)  y = Conv<auto_pad="SAME_UPPER">(h, w)', "its padding depends"),
    ],
)
def test_refuses_and_says_why(build, refusals, nodes, reason):
    model = build(
        f"(float[1,6,8,8] x) => (float y) {{ {nodes} }}", v=normal(9, 6, 1, 1), a=normal(9), w=normal(5, 9, 3, 3)
    )
    (refusal,) = refusals(MergeLinear(), model)
    assert reason in refusal


def test_what_others_read_stays(build, fuse):
    text = "(float[4,6] x) => (float y, float h) { h = MatMul(x, v)  y = MatMul(h, w) }"
    assert fuse(MergeLinear(), build(text, v=normal(6, 9), w=normal(9, 5))).ops == ["MatMul", "MatMul"]
    text = "(float[4,6] x) => (float y) { h = MatMul(x, v)  i = Relu(h)  j = MatMul(h, w)  y = Add(i, j) }"
    assert "Relu" in fuse(MergeLinear(), build(text, v=normal(6, 9), w=normal(9, 9))).ops


def test_a_product_that_overflows_in_half_precision_is_not_made(build, refusals):
    large = {name: np.full(shape, 300, np.float16) for name, shape in {"v": (8, 4), "w": (4, 4)}.items()}
    text = "(float16[2,8] x) => (float16[2,4] y) { h = MatMul(x, v)  y = MatMul(h, w) }"
    assert refusals(MergeLinear(), build(text, **large)) == []


def test_sparse_weights_stay_apart(build, refusals):
    weights = {"v": normal(4, 9), "w": normal(9, 4)}
    model = build("(float[2,4] x) => (float[2,4] y) { h = MatMul(x, v)  y = MatMul(h, w) }", **weights)
    set_sparsity(model.graph.initializers["v"], Sparsity("2:4", 0, 0.5))
    assert refusals(MergeLinear(), model) == []
