import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.passes.fusion.fold_affine import FoldAffine

GENERATOR = np.random.default_rng(2)


def normal(*shape, dtype=np.float32):
    return (GENERATOR.normal(size=shape) + 2).astype(dtype)


CONV = {"w": normal(4, 6, 3, 3)}

AFTER = {
    "mul": ("h = Conv(x, w) y = Mul(h, k)", normal(4, 1, 1), ["Conv"]),
    "mul first": ("h = Conv(x, w) y = Mul(k, h)", normal(1, 4, 1, 1), ["Conv"]),
    "div": ("h = Conv(x, w) y = Div(h, k)", normal(4, 1, 1), ["Conv"]),
    "add": ("h = Conv(x, w) y = Add(h, k)", normal(1, 4, 1, 1), ["Conv"]),
    "sub": ("h = Conv(x, w) y = Sub(h, k)", normal(), ["Conv"]),
    "subtracted from": ("h = Conv(x, w) y = Sub(k, h)", normal(4, 1, 1), ["Conv"]),
    "one number": ("h = Conv<pads=[1,1,1,1]>(x, w) y = Mul(h, k)", normal(1), ["Conv"]),
    "negated": ("h = Conv(x, w) y = Neg(h)", normal(), ["Conv"]),
    "two in a row": ("h = Conv(x, w) i = Mul(h, k) y = Add(i, k)", normal(4, 1, 1), ["Conv"]),
}


@pytest.mark.parametrize(("nodes", "constant", "left"), AFTER.values(), ids=AFTER)
def test_folds_into_the_convolution_before(build, fuse, nodes, constant, left):
    model = build(f"(float[1,6,7,7] x) => (float y) {{ {nodes} }}", **CONV, k=constant)
    assert fuse(FoldAffine(), model).ops == left


@pytest.mark.parametrize(
    ("nodes", "constant", "left"),
    [
        ("h = Gemm(x, u, c) y = Mul(h, k)", normal(4), ["Gemm"]),
        ("h = Gemm<beta=0.5>(x, u, c) y = Sub(k, h)", normal(1, 4), ["Gemm"]),
        ("h = MatMul(x, u) y = Mul(h, k)", normal(4), ["MatMul"]),
        ("h = MatMul(x, u) y = Div(h, k)", normal(), ["MatMul"]),
        ("h = MatMul(x, u) y = Sub(k, h)", normal(4), ["MatMul", "Add"]),
        ("r = Relu(x) h = Mul(r, k) y = MatMul(h, u)", normal(6), ["Relu", "MatMul"]),
        ("r = Relu(x) h = Sub(r, k) y = Gemm<alpha=2.0>(h, u, c)", normal(6), ["Relu", "Gemm"]),
    ],
)
def test_folds_into_products_of_matrices(build, fuse, nodes, constant, left):
    model = build(f"(float[5,6] x) => (float y) {{ {nodes} }}", u=normal(6, 4), c=normal(4), k=constant)
    assert fuse(FoldAffine(), model).ops == left


def test_folds_into_a_product_of_a_batch_of_rows(build, fuse):
    model = build("(float[2,5,6] x) => (float y) { h = MatMul(x, u) y = Mul(h, k) }", u=normal(6, 4), k=normal(4))
    assert fuse(FoldAffine(), model).ops == ["MatMul"]


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ("h = Sub(x, k) y = Conv(h, w)", ["Conv"]),
        ("h = Sub(x, k) i = Div(h, s) y = Conv(i, w)", ["Conv"]),
        ("h = Div(x, s) y = Conv<pads=[1,1,1,1]>(h, w)", ["Conv"]),
        ("h = Mul(x, s) y = ConvTranspose(h, v)", ["ConvTranspose"]),
    ],
)
def test_folds_input_normalization_into_the_convolution_behind(build, fuse, nodes, left):
    weights = {"w": normal(4, 6, 3, 3), "v": normal(6, 4, 3, 3), "k": normal(6, 1, 1), "s": normal(1, 6, 1, 1)}
    assert fuse(FoldAffine(), build(f"(float[1,6,7,7] x) => (float y) {{ {nodes} }}", **weights)).ops == left


def test_half_precision(build, fuse):
    half = {"w": normal(6, 4, dtype=np.float16), "k": normal(4, dtype=np.float16)}
    model = build("(float16[5,6] x) => (float16 y) { h = MatMul(x, w) y = Mul(h, k) }", **half)
    assert fuse(FoldAffine(), model, rtol=5e-3).ops == ["MatMul"]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("h = Conv(x, w) z = Relu(h) a = Mul(h, k) y = Add(a, z)", "its result has another reader"),
        ("h = Conv(x, w) y = Mul(h, p)", "not one number for each channel"),
        ("h = Sub(x, n) y = Conv<pads=[1,1,1,1]>(h, w)", "its padding is zero"),
        ("a = Conv(x, w) b = Conv(x, w) h = Mul(a, k) y = Add(h, b)", "the weight has another reader"),
    ],
)
def test_refuses_and_says_why(build, refusals, nodes, reason):
    weights = {"k": normal(4, 1, 1), "p": normal(1, 5), "n": normal(6, 1, 1)}
    model = build(f"(float[1,6,7,7] x) => (float y) {{ {nodes} }}", **CONV, **weights)
    assert any(reason in why for why in refusals(FoldAffine(), model))


def test_refuses_to_divide_by_zero(build, refusals):
    constant = np.zeros((4, 1, 1), np.float32)
    model = build("(float[1,6,7,7] x) => (float y) { h = Conv(x, w) y = Div(h, k) }", **CONV, k=constant)
    assert "range of float32" in refusals(FoldAffine(), model)[0]


def test_refuses_where_the_constant_makes_the_channels(build, refusals):
    model = build("(float[1,1,7,7] x) => (float y) { h = Mul(x, k) y = Conv(h, w) }", **CONV, k=normal(6, 1, 1))
    assert "may change the shape" in refusals(FoldAffine(), model)[0]


def test_leaves_the_number_at_the_end_of_an_activation(build, refusals):
    numbers = {"root2": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    nodes = "d = Div(x, root2) e = Erf(d) a = Add(e, one) m = Mul(x, a) h = Mul(m, half) y = MatMul(h, u)"
    model = build(f"(float[5,6] x) => (float y) {{ {nodes} }}", u=normal(6, 4), **numbers)
    assert refusals(FoldAffine(), model) == []


def test_leaves_alone_what_has_no_layer_or_no_gain(build, refusals):
    model = build(
        "(float[5,6] x) => (float y) { h = MatMul(x, u) i = Add(k, h) y = Div(k, i) }", u=normal(6, 4), k=normal(4)
    )
    assert refusals(FoldAffine(), model) == []


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    groups=st.integers(1, 3), ins=st.integers(1, 3), outs=st.integers(1, 3), op=st.sampled_from(["Mul", "Add", "Div"])
)
def test_any_grouping_before_and_behind(build, fuse, groups, ins, outs, op):
    weights = {"w": normal(groups * outs, ins, 2, 2), "a": normal(groups * ins, 1, 1), "b": normal(groups * outs, 1, 1)}
    nodes = f"h = {op}(x, a) i = Conv<group={groups}>(h, w) y = {op}(i, b)"
    assert fuse(FoldAffine(), build(f"(float[2,{groups * ins},4,4] x) => (float y) {{ {nodes} }}", **weights)).ops == [
        "Conv"
    ]
