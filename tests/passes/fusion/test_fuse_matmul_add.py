import numpy as np
import pytest

from graphpress.passes.fusion.fuse_matmul_add import FuseMatmulAdd

GENERATOR = np.random.default_rng(4)


def normal(*shape, dtype=np.float32):
    return GENERATOR.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("bias", [(), (1,), (4,), (1, 4), (5, 1), (5, 4)])
@pytest.mark.parametrize("order", ["h, b", "b, h"])
def test_joins_product_and_bias(build, fuse, bias, order):
    model = build(
        f"(float[5,6] x) => (float y) {{ h = MatMul(x, w) y = Add({order}) }}", w=normal(6, 4), b=normal(*bias)
    )
    fused = fuse(FuseMatmulAdd(), model)
    assert fused.ops == ["Gemm"]
    assert fused.model.graph.outputs[0].name == "y"


@pytest.mark.parametrize(
    "nodes",
    [
        "h = Gemm<alpha=0.5,beta=7.0,transB=1>(x, v) y = Add(h, b)",
        "h = Gemm<transA=1>(t, w) y = Add(b, h)",
        "r = Relu(b) h = MatMul(x, w) y = Add(h, r)",
        "t2 = Transpose<perm=[1,0]>(t) h = MatMul(t2, w) y = Add(h, b)",
    ],
)
def test_joins_gemm_and_computed_operands(build, fuse, nodes):
    text = f"(float[5,6] x, float[6,5] t) => (float y) {{ {nodes} }}"
    fused = fuse(FuseMatmulAdd(), build(text, w=normal(6, 4), v=normal(4, 6), b=normal(4)))
    assert fused.outcome.changes == 1
    assert "Add" not in fused.ops


def test_computed_bias_that_comes_after_the_product(build, fuse):
    text = "(float[5,6] x) => (float y) { h = MatMul(x, w) r = MatMul(x, v) s = Relu(r) y = Add(h, s) }"
    assert sorted(fuse(FuseMatmulAdd(), build(text, w=normal(6, 4), v=normal(6, 4))).ops) == ["Gemm", "MatMul", "Relu"]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("h = MatMul(x, w) a = Add(h, b) y = Mul(a, h)", "another reader"),
        ("h = MatMul(x, w) y = Add(h, big)", "may not broadcast"),
        ("h = MatMul(x, w) y = Add(h, u)", "may not broadcast"),
    ],
)
def test_refuses_and_says_why(build, refusals, nodes, reason):
    text = f"(float[1,6] x, float[N,4] u) => (float y) {{ {nodes} }}"
    assert reason in refusals(FuseMatmulAdd(), build(text, w=normal(6, 4), b=normal(4), big=normal(3, 4)))[0]


def test_leaves_twice_the_product_alone(build, refusals):
    text = "(float[5,6] x) => (float y) { h = MatMul(x, w) y = Add(h, h) }"
    assert refusals(FuseMatmulAdd(), build(text, w=normal(6, 4))) == []


def test_refuses_before_opset_7(build, refusals):
    text = "(float[5,6] x, float[5,4] z) => (float y) { h = MatMul(x, w) y = Add(h, z) }"
    assert "needs opset 7" in refusals(FuseMatmulAdd(), build(text, opset=6, w=normal(6, 4)))[0]


@pytest.mark.parametrize(
    "text",
    [
        "(float[2,5,6] x) => (float y) { h = MatMul(x, w) y = Add(h, b) }",
        "(float[5,6] x) => (float y) { h = Gemm(x, w, b) y = Add(h, b) }",
        "(float x) => (float y) { h = MatMul(x, w) y = Add(h, b) }",
    ],
)
def test_leaves_other_products_alone(build, refusals, text):
    assert refusals(FuseMatmulAdd(), build(text, w=normal(6, 4), b=normal(4))) == []


def test_leaves_integers_alone(build, refusals):
    text = "(int32[5,6] x) => (int32 y) { h = MatMul(x, w) y = Add(h, b) }"
    assert refusals(FuseMatmulAdd(), build(text, w=normal(6, 4, dtype=np.int32), b=normal(4, dtype=np.int32))) == []
