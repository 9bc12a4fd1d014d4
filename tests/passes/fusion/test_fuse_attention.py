import numpy as np
import pytest

from graphpress.ir import float_attribute
from graphpress.passes.fusion.fuse_attention import FuseAttention

NUMBERS = {"minus": np.float32(-1), "eight": np.float32(8), "eighth": np.float32(0.125), "root": np.float32(0.125**0.5)}
FLAT = {"merged": np.array([6, 7, 4]), "split": np.array([2, 3, 4, 7])}

PLAIN = "t = Transpose<perm=[0,1,3,2]>(k) s = MatMul(q, t) "
VARIANTS = {
    "bare": PLAIN + "p = Softmax<axis=-1>(s) y = MatMul(p, v)",
    "divided": PLAIN + "a = Div(s, eight) p = Softmax<axis=3>(a) y = MatMul(p, v)",
    "queries scaled": "b = Mul(q, eighth) t = Transpose<perm=[0,1,3,2]>(k) s = MatMul(b, t) p = Softmax(s)"
    " y = MatMul(p, v)",
    "both scaled": "b = Mul(q, root) t = Transpose<perm=[0,1,3,2]>(k) c = Mul(root, t) s = MatMul(b, c) p = Softmax(s)"
    " y = MatMul(p, v)",
    "masked": PLAIN + "a = Div(s, eight) m = Add(a, mask) p = Softmax(m) y = MatMul(p, v)",
    "mask first": PLAIN + "a = Mul(eighth, s) m = Add(mask, a) p = Softmax(m) y = MatMul(p, v)",
    "batch and heads merged": "r = Reshape(k, merged) t = Transpose<perm=[0,2,1]>(r) u = Reshape(t, split)"
    " s = MatMul(q, u) p = Softmax(s) y = MatMul(p, v)",
}


def graph(nodes, mask="2,1,5,7", k="2,3,7,4", v="2,3,7,6", outputs="y"):
    listed = ", ".join(f"float {name}" for name in outputs.split())
    declared = f", float[{mask}] mask" if "mask" in nodes else ""
    return f"(float[2,3,5,4] q, float[{k}] k, float[{v}] v{declared}) => ({listed}) {{ {nodes} }}"


def model_of(build, text, opset=23):
    return build(text, opset=opset, ir_version=11, **NUMBERS, **FLAT)


@pytest.mark.parametrize("form", VARIANTS)
def test_becomes_one_operator(build, fuse, form):
    fused = fuse(FuseAttention(), model_of(build, graph(VARIANTS[form])))
    assert fused.ops == ["Attention"]
    scale = 0.125 if any(word in form for word in ("divided", "scaled", "mask")) else 1
    assert float_attribute(fused.model.graph.node(0), "scale", 0) == pytest.approx(scale)


@pytest.mark.parametrize("mask", ["5,7", "1,1,5,7", "2,3,5,7", "1,5,7", "2,1,1,7", "1,7"])
def test_masks_of_all_shapes(build, fuse, mask):
    fused = fuse(FuseAttention(), model_of(build, graph(VARIANTS["masked"], mask=mask)))
    assert fused.ops == (["Expand", "Attention"] if mask.endswith("1,7") else ["Attention"])


def test_a_mask_of_one_row_for_any_number_of_queries(build, fuse):
    text = graph(VARIANTS["masked"], mask="2,1,1,7").replace("2,3,5,4", "2,3,T,4")
    fused = fuse(FuseAttention(), model_of(build, text))
    assert fused.ops == ["Shape", "Concat", "Expand", "Attention"]


@pytest.mark.parametrize("where", ["Where(seen, s, lowest)", "Where(hidden, lowest, s)"])
def test_a_constant_choice_is_a_mask(build, fuse, where):
    seen = np.tril(np.ones((5, 7), bool), 2)
    weights = {"seen": seen, "hidden": ~seen, "lowest": np.float32(-3.4e38)}
    model = build(graph(PLAIN + f"w = {where} p = Softmax(w) y = MatMul(p, v)"), opset=23, ir_version=11, **weights)
    assert fuse(FuseAttention(), model).ops == ["Attention"]


def test_a_choice_that_hides_every_key_of_a_query_is_none(build, refusals):
    weights = {"seen": np.zeros((5, 7), bool), "lowest": np.float32(-3.4e38)}
    nodes = PLAIN + "w = Where(seen, s, lowest) p = Softmax(w) y = MatMul(p, v)"
    assert refusals(FuseAttention(), build(graph(nodes), opset=23, ir_version=11, **weights)) == []


def test_keys_that_come_in_another_order_are_transposed_once(build, fuse):
    nodes = "t = Transpose<perm=[0,2,3,1]>(k) s = MatMul(q, t) p = Softmax(s) y = MatMul(p, v)"
    fused = fuse(FuseAttention(), model_of(build, graph(nodes, k="2,7,3,4")))
    assert fused.ops == ["Transpose", "Attention"]


def test_keys_whose_batch_and_heads_are_split_after_the_transposition(build, fuse):
    nodes = "t = Transpose<perm=[1,2,0]>(k) u = Reshape(t, split) s = MatMul(q, u) p = Softmax(s) y = MatMul(p, v)"
    fused = fuse(FuseAttention(), model_of(build, graph(nodes, k="7,6,4")))
    assert fused.ops == ["Transpose", "Reshape", "Attention"]


def test_single_head_of_rank_3(build, fuse):
    nodes = "t = Transpose<perm=[0,2,1]>(k) s = MatMul(q, t) a = Mul(s, eighth) p = Softmax(a) y = MatMul(p, v)"
    text = f"(float[6,5,4] q, float[6,7,4] k, float[6,7,4] v) => (float y) {{ {nodes} }}"
    assert fuse(FuseAttention(), model_of(build, text)).ops == ["Attention"]


@pytest.mark.parametrize(
    ("text", "opset", "reason"),
    [
        (graph(VARIANTS["divided"]), 17, "needs opset 23, the model has 17"),
        (graph(VARIANTS["divided"] + " z = Neg(t)", outputs="y z"), 23, "another reader"),
        (graph("s = MatMul(q, k) p = Softmax(s) y = MatMul(p, v)", k="2,3,4,7"), 23, "not transposed"),
        (graph(VARIANTS["bare"], k="1,3,7,4"), 23, "may broadcast"),
        (graph(PLAIN + "a = Mul(s, minus) p = Softmax(a) y = MatMul(p, v)"), 23, "not positive"),
        (graph(VARIANTS["masked"], mask="2,1,5,1"), 23, "as wide as there are keys"),
        (graph(VARIANTS["masked"], mask="7"), 23, "another rank"),
        (graph(VARIANTS["masked"], mask="2,1,R,7"), 23, "one row, or one for each query"),
        (graph(VARIANTS["masked"], mask="2,B,5,7"), 23, "the mask may broadcast"),
    ],
)
def test_refuses_and_says_why(build, refusals, text, opset, reason):
    assert any(reason in why for why in refusals(FuseAttention(), model_of(build, text, opset)))


@pytest.mark.parametrize(
    "nodes",
    [
        PLAIN + "y = Softmax(s)",
        PLAIN + "p = Softmax<axis=2>(s) y = MatMul(p, v)",
        PLAIN + "p = Softmax(s) w = MatMul(p, v) y = Add(w, p)",
        "p = Softmax(q) y = MatMul(p, w)",
    ],
)
def test_leaves_other_softmaxes_alone(build, refusals, nodes):
    text = graph(nodes, v="2,3,7,7" if "w = " in nodes else "2,3,7,6")
    assert refusals(FuseAttention(), model_of(build, text.replace("(p, w)", "(p, k)"))) == []
