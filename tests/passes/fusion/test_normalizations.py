"""The rules that recognize a normalization or a softmax that is written out."""

import re

import numpy as np
import pytest

from graphpress.ir import float_attribute, int_attribute
from graphpress.passes.fusion.fuse_group_norm import FuseGroupNorm
from graphpress.passes.fusion.fuse_layer_norm import FuseLayerNorm
from graphpress.passes.fusion.fuse_rms_norm import FuseRmsNorm
from graphpress.passes.fusion.fuse_softmax import FuseSoftmax

GENERATOR = np.random.default_rng(5)
AXIS = np.array([-1])


def weights():
    numbers = {"two": 2.0, "one": 1.0, "eps": 1e-5, "minus_half": -0.5}
    vectors = {
        "gamma": GENERATOR.normal(size=8),
        "beta": GENERATOR.normal(size=8),
        "row": GENERATOR.normal(size=(4, 8)),
    }
    arrays = numbers | vectors
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()} | {"axis": AXIS}


def graph(nodes, dtype="float", shape="2,4,8", outputs="y"):
    listed = ", ".join(f"{dtype} {name}" for name in outputs.split())
    return f"({dtype}[{shape}] x) => ({listed}) {{ {nodes} }}"


CENTRE = "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) "
VARIANCE = "p = Pow({0}, two) v = ReduceMean<axes=[-1]>(p) e = Add(v, eps) "
ROOTS = {
    "sqrt": VARIANCE + "s = Sqrt(e) n = Div({0}, s) ",
    "mul": VARIANCE.replace("Pow({0}, two)", "Mul({0}, {0})") + "s = Sqrt(e) n = Div({0}, s) ",
    "reciprocal": VARIANCE.replace("-1", "2") + "s = Sqrt(e) r = Reciprocal(s) n = Mul({0}, r) ",
    "one over": VARIANCE + "s = Sqrt(e) r = Div(one, s) n = Mul(r, {0}) ",
    "power": VARIANCE + "r = Pow(e, minus_half) n = Mul({0}, r) ",
}


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("tail", ["g = Mul(n, gamma) y = Add(g, beta)", "y = Mul(gamma, n)", "y = Identity(n)"])
def test_layer_norm(build, fuse, root, tail):
    fused = fuse(FuseLayerNorm(), build(graph(CENTRE + ROOTS[root].format("d") + tail), **weights()), atol=1e-5)
    assert [op for op in fused.ops if op != "Identity"] == ["LayerNormalization"]
    assert float_attribute(fused.model.graph.node(0), "epsilon", 0) == pytest.approx(1e-5)


def test_layer_norm_in_opset_18_and_over_two_axes(build, fuse):
    one = re.sub(r"<axes=.*?>\((.)\)", r"(\1, axis)", CENTRE + ROOTS["sqrt"].format("d"))
    fused = fuse(FuseLayerNorm(), build(graph(one + "y = Mul(n, gamma)"), opset=18, **weights()), atol=1e-5)
    assert fused.ops == ["LayerNormalization"]
    two = (CENTRE + ROOTS["sqrt"].format("d")).replace("[-1]", "[1,2]") + "y = Mul(n, row)"
    fused = fuse(FuseLayerNorm(), build(graph(two), **weights()), atol=1e-5)
    assert int_attribute(fused.model.graph.node(0), "axis", 0) == -2


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("tail", ["y = Mul(n, gamma)", "g = Mul(gamma, n) y = Add(g, beta)", "y = Identity(n)"])
def test_rms_norm(build, fuse, root, tail):
    nodes = re.sub(r"<axes=.*?>\(p\)", "(p, axis)", ROOTS[root].format("x"))
    fused = fuse(FuseRmsNorm(), build(graph(nodes + tail), opset=23, ir_version=11, **weights()), atol=1e-5)
    assert fused.ops[0] == "RMSNormalization"
    assert set(fused.ops[1:]) <= {"Add", "Identity"}


def test_casts_to_float_and_back_belong_to_the_operator(build, fuse):
    nodes = (
        "c = Cast<to=1>(x) p = Pow(c, two) v = ReduceMean(p, axis) e = Add(v, eps) s = Sqrt(e) n = Div(c, s)"
        " b = Cast<to=10>(n) y = Mul(half_gamma, b)"
    )
    arrays = weights() | {"half_gamma": GENERATOR.normal(size=8).astype(np.float16)}
    model = build(graph(nodes, "float16"), opset=23, ir_version=11, **arrays)
    assert fuse(FuseRmsNorm(), model, rtol=2e-3).ops == ["RMSNormalization"]


REFUSALS = [
    (FuseLayerNorm(), CENTRE + ROOTS["sqrt"].format("d") + "y = Mul(n, gamma)", {"opset": 13}, "needs opset 17"),
    (FuseLayerNorm(), CENTRE + ROOTS["sqrt"].format("d") + "g = Mul(n, gamma) y = Mul(g, s)", {}, "another reader"),
    (FuseLayerNorm(), CENTRE + ROOTS["sqrt"].format("d") + "y = Identity(n)", {"shape": "2,4,N"}, "is unknown"),
    (FuseRmsNorm(), ROOTS["sqrt"].format("x") + "y = Mul(n, gamma)", {"opset": 17}, "needs opset 23"),
    (FuseSoftmax(), "e = Exp(x) t = ReduceSum<axes=[-1]>(e) y = Div(e, t)", {"opset": 11}, "needs opset 13"),
    (FuseSoftmax(), "e = Exp(x) t = ReduceSum(e, axis) z = Div(e, t) y = Add(z, e)", {}, "another reader"),
]


@pytest.mark.parametrize(("rule", "nodes", "options", "reason"), REFUSALS)
def test_refuses_and_says_why(build, refusals, rule, nodes, options, reason):
    text = graph(nodes, shape=options.get("shape", "2,4,8"))
    assert reason in refusals(rule, build(text, opset=options.get("opset", 17), **weights()))[0]


@pytest.mark.parametrize(
    ("rule", "nodes"),
    [
        (FuseLayerNorm(), (CENTRE + ROOTS["sqrt"].format("d")).replace("-1", "1") + "y = Neg(n)"),
        (FuseLayerNorm(), CENTRE.replace("-1", "1") + ROOTS["sqrt"].format("d") + "y = Neg(n)"),
        (FuseLayerNorm(), ROOTS["sqrt"].format("x") + "y = Neg(n)"),
        (FuseRmsNorm(), CENTRE + ROOTS["sqrt"].format("d") + "y = Neg(n)"),
        (FuseRmsNorm(), ROOTS["sqrt"].format("x").replace("n = Div(x,", "a = Abs(x) n = Div(a,") + "y = Neg(n)"),
        (FuseSoftmax(), "e = Exp(x) t = ReduceSum<keepdims=0>(e, axis) u = Unsqueeze(t, axis) y = Div(e, u)"),
        (FuseSoftmax(), "e = Exp(x) t = ReduceSum(e) y = Div(e, t)"),
    ],
)
def test_leaves_other_functions_alone(build, refusals, rule, nodes):
    assert refusals(rule, build(graph(nodes), opset=17, **weights())) == []


@pytest.mark.parametrize(
    "nodes",
    [
        "e = Exp(x) t = ReduceSum(e, axis) y = Div(e, t)",
        "m = ReduceMax<axes=[-1]>(x) d = Sub(x, m) e = Exp(d) t = ReduceSum(e, axis) y = Div(e, t)",
    ],
)
def test_softmax(build, fuse, nodes):
    assert fuse(FuseSoftmax(), build(graph(nodes), **weights())).ops == ["Softmax"]


GROUPS = (
    "r = Reshape(x, into) i = InstanceNormalization<epsilon=0.001>(r, ones, zeros) {back}"
    " m = Mul(b, gamma) y = Add(m, beta)"
)


def group_weights(**changes):
    arrays = {
        "into": np.array([0, 2, -1]),
        "shape": np.array([2, 6, 3, 3]),
        "ones": np.ones(2, np.float32),
        "zeros": np.zeros(2, np.float32),
        "gamma": GENERATOR.normal(size=(6, 1, 1)).astype(np.float32),
        "beta": GENERATOR.normal(size=(1, 6, 1, 1)).astype(np.float32),
    }
    return arrays | changes


@pytest.mark.parametrize("back", ["b = Reshape(i, shape)", "z = Shape(x) b = Reshape(i, z)"])
def test_group_norm(build, fuse, back):
    model = build(graph(GROUPS.format(back=back), shape="2,6,3,3"), opset=21, **group_weights())
    fused = fuse(FuseGroupNorm(), model, atol=1e-5)
    assert [op for op in fused.ops if op != "Shape"] == ["GroupNormalization"]


def test_group_norm_refuses_and_leaves_alone(build, refusals):
    text = graph(GROUPS.format(back="b = Reshape(i, shape)"), shape="2,6,3,3")
    assert "needs opset 21" in refusals(FuseGroupNorm(), build(text, opset=17, **group_weights()))[0]
    read = text.replace("float y)", "float y, float[2,2,27] r)")
    assert "another reader" in refusals(FuseGroupNorm(), build(read, opset=21, **group_weights()))[0]
    over_samples = {"into": np.array([1, 2, -1])}
    for changes in ({"ones": np.full(2, 2, np.float32)}, {"gamma": np.ones((1, 3, 1), np.float32)}, over_samples):
        assert refusals(FuseGroupNorm(), build(text, opset=21, **group_weights(**changes))) == []
