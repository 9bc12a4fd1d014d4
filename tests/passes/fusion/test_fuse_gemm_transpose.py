import numpy as np
import pytest

from graphpress.passes.fusion.fuse_gemm_transpose import FuseGemmTranspose

GENERATOR = np.random.default_rng(6)
WEIGHTS = {"w": GENERATOR.normal(size=(6, 4)).astype(np.float32), "c": np.ones(4, np.float32)}


def graph(nodes):
    return f"(float[5,6] x, float[6,5] t, float[4,6] u) => (float y) {{ {nodes} }}"


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ("a = Transpose(t) y = Gemm(a, w, c)", ["Gemm"]),
        ("a = Transpose<perm=[1,0]>(u) y = Gemm(x, a, c)", ["Gemm"]),
        ("a = Transpose<perm=[1,0]>(x) y = Gemm<transA=1, alpha=0.5>(a, w)", ["Gemm"]),
        ("a = Transpose(t) b = Transpose(u) y = MatMul(a, b)", ["Gemm"]),
        ("b = Transpose(u) y = MatMul(x, b)", ["Gemm"]),
        ("b = Transpose(u) z = MatMul(x, b) s = ReduceSum(b) y = Add(z, s)", ["Transpose", "Gemm", "ReduceSum", "Add"]),
        ("a = Transpose(t) y = MatMul(t, a)", ["Gemm"]),
    ],
)
def test_reads_the_straight_matrix(build, fuse, nodes, left):
    assert fuse(FuseGemmTranspose(), build(graph(nodes), **WEIGHTS)).ops == left


def test_refuses_before_the_bias_became_optional(build, refusals):
    model = build(graph("b = Transpose(u) y = MatMul(x, b)"), opset=10, **WEIGHTS)
    assert "needs opset 11" in refusals(FuseGemmTranspose(), model)[0]


@pytest.mark.parametrize(
    "text",
    [
        graph("a = Transpose<perm=[0,1]>(x) y = MatMul(a, w)"),
        "(float[2,5,6] x, float[2,4,6] k) => (float y) { b = Transpose<perm=[0,2,1]>(k) y = MatMul(x, b) }",
        "(int32[5,6] x, int32[4,6] k) => (int32 y) { b = Transpose(k) y = MatMul(x, b) }",
    ],
)
def test_leaves_other_products_alone(build, refusals, text):
    assert refusals(FuseGemmTranspose(), build(text, **WEIGHTS)) == []
