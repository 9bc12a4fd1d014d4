"""The rules that recognize an activation function, each in the forms of exporters and in some nobody uses."""

import numpy as np
import pytest

from graphpress.ir import apply_rules, float_attribute, string_attribute
from graphpress.passes.fusion.fuse_clip import FuseClip
from graphpress.passes.fusion.fuse_gelu import FuseGelu
from graphpress.passes.fusion.fuse_hard_sigmoid import FuseHardSigmoid
from graphpress.passes.fusion.fuse_hard_swish import FuseHardSwish
from graphpress.passes.fusion.fuse_leaky_relu import FuseLeakyRelu
from graphpress.passes.fusion.fuse_mish import FuseMish
from graphpress.passes.fusion.fuse_softplus import FuseSoftplus
from graphpress.passes.fusion.fuse_swish import FuseSwish

NUMBERS = {
    "zero": 0.0, "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "six": 6.0, "sixth": 1 / 6, "seven": 7.0,
    "root2": 2**0.5, "inverse_root2": 0.5**0.5, "root2pi": (2 / np.pi) ** 0.5, "cubic": 0.044715,
    "both": 0.044715 * (2 / np.pi) ** 0.5, "quick": 1.702, "twenty": 20.0, "tenth": 0.1, "minus": -1.0,
}  # fmt: skip


def graph(nodes, dtype="float", outputs="y"):
    listed = ", ".join(f"{dtype} {name}" for name in outputs.split())
    return f"({dtype}[2,3,4] x) => ({listed}) {{ {nodes} }}"


def numbers(dtype=np.float32):
    return {name: np.array(value, dtype) for name, value in NUMBERS.items()}


VARIANTS = {
    FuseGelu(): [
        "d = Div(x, root2) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
        "d = Mul(x, inverse_root2) e = Erf(d) a = Add(one, e) h = Mul(half, x) y = Mul(h, a)",
        "d = Div(x, root2) e = Erf(d) a = Add(e, one) h = Mul(a, half) y = Mul(x, h)",
        "d = Div(x, root2) e = Erf(d) h = Mul(e, half) a = Add(h, half) y = Mul(a, x)",
        "d = Div(x, root2) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Div(m, two)",
    ],
    FuseSwish(): ["s = Sigmoid(x) y = Mul(x, s)", "q = Mul(quick, x) s = Sigmoid(q) y = Mul(s, x)"],
    FuseMish(): [
        "p = Softplus(x) t = Tanh(p) y = Mul(x, t)",
        "p = Softplus(x) g = Greater(x, twenty) w = Where(g, x, p) t = Tanh(w) y = Mul(t, x)",
        "e = Exp(x) a = Add(e, one) l = Log(a) t = Tanh(l) y = Mul(x, t)",
    ],
    FuseSoftplus(): [
        "e = Exp(x) a = Add(one, e) y = Log(a)",
        "p = Softplus(x) g = Greater(x, twenty) y = Where(g, x, p)",
    ],
    FuseHardSwish(): [
        "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, six) d = Div(c, six) y = Mul(d, x)",
        "a = Add(x, three) r = Relu(a) c = Min(r, six) d = Mul(sixth, c) y = Mul(d, x)",
        "a = Mul(x, sixth) b = Add(a, half) c = Clip(b, zero, one) y = Mul(c, x)",
        "s = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, s)",
    ],
    FuseHardSigmoid(): [
        "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)",
        "a = Div(x, two) b = Sub(a, half) y = Clip(b, zero, one)",
        "a = Sub(one, x) c = Max(a, zero) y = Min(c, one)",
    ],
    FuseLeakyRelu(): [
        "g = Greater(x, zero) m = Mul(x, tenth) y = Where(g, x, m)",
        "m = Mul(tenth, x) y = Max(x, m)",
    ],
}
CASES = [(rule, nodes) for rule, forms in VARIANTS.items() for nodes in forms]


@pytest.mark.parametrize(("rule", "nodes"), CASES, ids=[f"{rule.name}-{nodes}" for rule, nodes in CASES])
def test_every_form_becomes_one_operator(build, fuse, rule, nodes):
    fused = fuse(rule, build(graph(nodes), opset=24, ir_version=11, **numbers()), atol=1e-6)
    assert fused.outcome.changes >= 1
    assert fused.ops == [rule.emits]


@pytest.mark.parametrize(
    "nodes",
    [
        "c = Pow(x, three) m = Mul(c, cubic) a = Add(x, m) i = Mul(a, root2pi)",
        "s = Mul(x, x) c = Mul(s, x) m = Mul(cubic, c) a = Add(m, x) i = Mul(root2pi, a)",
        "s = Pow(x, two) m = Mul(s, cubic) a = Add(m, one) b = Mul(x, a) i = Mul(b, root2pi)",
        "s = Mul(x, x) m = Mul(s, both) a = Add(m, root2pi) i = Mul(x, a)",
    ],
)
def test_tanh_form_of_gelu(build, fuse, nodes):
    text = graph(f"{nodes} t = Tanh(i) p = Add(t, one) h = Mul(x, half) y = Mul(h, p)")
    fused = fuse(FuseGelu(), build(text, opset=20, **numbers()), atol=1e-6)
    assert fused.ops == ["Gelu"]
    assert string_attribute(fused.model.graph.node(0), "approximate", "none") == "tanh"


def test_keeps_the_slope_of_quick_gelu(build):
    model = build(graph("q = Mul(x, quick) s = Sigmoid(q) y = Mul(x, s)"), opset=24, ir_version=11, **numbers())
    assert apply_rules(model, [FuseSwish()]).count == 1
    assert float_attribute(model.graph.node(0), "alpha", 1) == pytest.approx(1.702)


def test_half_precision_constants_are_recognized(build):
    nodes = "d = Div(x, root2) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)"
    model = build(graph(nodes, "float16"), opset=20, **numbers(np.float16))
    assert apply_rules(model, [FuseGelu()]).count == 1


@pytest.mark.parametrize(
    ("rule", "nodes", "opset"),
    [
        (FuseGelu(), VARIANTS[FuseGelu()][0], 20),
        (FuseSwish(), VARIANTS[FuseSwish()][0], 24),
        (FuseMish(), VARIANTS[FuseMish()][0], 18),
        (FuseHardSwish(), VARIANTS[FuseHardSwish()][0], 14),
    ],
)
def test_refuses_in_an_older_operator_set(build, refusals, rule, nodes, opset):
    model = build(graph(nodes), opset=13, **numbers())
    assert f"needs opset {opset}, the model has 13" in refusals(rule, model)[0]


@pytest.mark.parametrize(
    ("rule", "nodes", "inner"),
    [
        (FuseGelu(), VARIANTS[FuseGelu()][0], "e"),
        (FuseSwish(), VARIANTS[FuseSwish()][0], "s"),
        (FuseMish(), VARIANTS[FuseMish()][0], "p"),
        (FuseHardSwish(), VARIANTS[FuseHardSwish()][4], "s"),
        (FuseSoftplus(), VARIANTS[FuseSoftplus()][0], "e"),
        (FuseLeakyRelu(), VARIANTS[FuseLeakyRelu()][0], "m"),
    ],
)
@pytest.mark.parametrize("reader", ["graph output", "node"])
def test_refuses_when_an_inner_value_is_read_elsewhere(build, refusals, rule, nodes, inner, reader):
    outputs = f"y {inner}" if reader == "graph output" else "y z"
    more = "" if reader == "graph output" else f" z = Neg({inner})"
    model = build(graph(nodes + more, outputs=outputs), opset=24, ir_version=11, **numbers())
    assert "another reader" in refusals(rule, model)[0]


@pytest.mark.parametrize(
    ("rule", "nodes"),
    [
        (FuseGelu(), "d = Div(x, two) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)"),
        (FuseGelu(), "d = Div(x, root2) e = Erf(d) a = Add(e, two) m = Mul(x, a) y = Mul(m, half)"),
        (FuseGelu(), "r = Relu(x) d = Div(x, root2) e = Erf(d) a = Add(e, one) m = Mul(r, a) y = Mul(m, half)"),
        (FuseSwish(), "r = Relu(x) s = Sigmoid(x) y = Mul(r, s)"),
        (FuseSwish(), "a = Add(x, one) s = Sigmoid(a) y = Mul(x, s)"),
        (FuseMish(), "p = Softplus(x) g = Greater(x, two) w = Where(g, x, p) t = Tanh(w) y = Mul(t, x)"),
        (FuseHardSwish(), "a = Add(x, two) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)"),
        (FuseHardSwish(), "a = Add(x, three) c = Clip(a, zero, seven) m = Mul(x, c) y = Div(m, six)"),
        (FuseHardSigmoid(), "y = Clip(x, zero, one)"),
        (FuseHardSigmoid(), "a = Add(x, three) y = Clip(a, zero, six)"),
        (FuseLeakyRelu(), "m = Mul(x, two) y = Max(x, m)"),
        (FuseLeakyRelu(), "g = Greater(x, one) m = Mul(x, tenth) y = Where(g, x, m)"),
        (FuseClip(), "r = Relu(x) y = Min(r, x)"),
    ],
)
def test_leaves_other_functions_alone(build, refusals, rule, nodes):
    assert refusals(rule, build(graph(nodes), opset=24, ir_version=11, **numbers())) == []


@pytest.mark.parametrize(
    ("rule", "nodes"),
    [
        (FuseHardSigmoid(), "m = Mul(x, tenth) a = Add(m, half) y = Clip(a, zero, one)"),
        (FuseLeakyRelu(), "g = Greater(x, zero) m = Mul(x, tenth) y = Where(g, x, m)"),
        (FuseSoftplus(), "e = Exp(x) a = Add(e, one) y = Log(a)"),
    ],
)
def test_leaves_double_alone(build, refusals, rule, nodes):
    reasons = refusals(rule, build(graph(nodes, "double"), opset=21, **numbers(np.float64)))
    assert reasons == ["the fused operator does not compute in double"]


def test_leaves_integers_alone(build, refusals):
    model = build(graph("m = Mul(x, zero) y = Max(x, m)", "int32"), zero=np.array(0, np.int32))
    assert refusals(FuseLeakyRelu(), model) == ["the fused operator does not compute in int32"]


def test_a_scale_before_or_behind_the_function_stays(build, fuse):
    nodes = (
        "i = Mul(x, two) d = Div(i, root2) e = Erf(d) a = Add(e, one) m = Mul(i, a) h = Mul(m, half) y = Mul(h, two)"
    )
    fused = fuse(FuseGelu(), build(graph(nodes), opset=20, **numbers()), atol=1e-6)
    assert fused.ops == ["Mul", "Gelu", "Mul"]


@pytest.mark.parametrize("nodes", ["y = Min(x, half)", "y = Max(zero, x)", "m = Max(x, minus) y = Min(m, half)"])
def test_minimum_and_maximum_become_clip(build, fuse, nodes):
    assert set(fuse(FuseClip(), build(graph(nodes), **numbers())).ops) == {"Clip"}
    assert set(fuse(FuseClip(), build(graph(nodes, "double"), **numbers(np.float64))).ops) == {"Clip"}


def test_minimum_needs_limits_as_inputs(build, refusals):
    assert "needs opset 11" in refusals(FuseClip(), build(graph("y = Min(x, half)"), opset=10, **numbers()))[0]


def test_a_number_with_more_axes_is_no_number(build, refusals):
    weights = numbers() | {"one": np.ones((1, 1, 1, 1), np.float32)}
    assert refusals(FuseSoftplus(), build(graph("e = Exp(x) a = Add(one, e) y = Log(a)"), **weights)) == []
