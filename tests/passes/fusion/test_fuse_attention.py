import numpy as np
import pytest

from graphpress.ir import float_attribute
from graphpress.passes.fusion.fuse_attention import FuseAttention

NUMBERS = {
    "zero": np.float32(0),
    "minus": np.float32(-1),
    "eight": np.float32(8),
    "eighth": np.float32(0.125),
    "root": np.float32(0.125**0.5),
}
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


GUARDED = (
    PLAIN + "m = Add(s, mask) p = Softmax<axis=-1>(m) n = IsNaN(p) w = Where(n, zero, p) y = MatMul(w, v)"
)  # as PyTorch writes it: zero for a query that sees no key


def graph(nodes, mask="2,1,5,7", k="2,3,7,4", v="2,3,7,6", outputs="y"):
    listed = ", ".join(f"float {name}" for name in outputs.split())
    declared = f", float[{mask}] mask" if "mask" in nodes else ""
    return f"(float[2,3,5,4] q, float[{k}] k, float[{v}] v{declared}) => ({listed}) {{ {nodes} }}"


def model_of(build, text, opset=23):
    return build(text, opset=opset, ir_version=11, **NUMBERS, **FLAT)


@pytest.mark.parametrize("form", VARIANTS)
def test_becomes_one_operator(build, fuse, form):
    fused = fuse(FuseAttention(), model_of(build, graph(VARIANTS[form])))
    assert fused.ops == (["Max", "Attention"] if "mask" in form else ["Attention"])
    scale = 0.125 if any(word in form for word in ("divided", "scaled", "mask")) else 1
    assert float_attribute(fused.model.graph[-1], "scale", 0) == pytest.approx(scale)


@pytest.mark.parametrize("mask", ["5,7", "1,1,5,7", "2,3,5,7", "1,5,7", "2,1,1,7", "1,7", "2,1,5,1"])
def test_masks_of_all_shapes(build, fuse, mask):
    fused = fuse(FuseAttention(), model_of(build, graph(VARIANTS["masked"], mask=mask)))
    assert fused.ops == (["Max", "Expand", "Attention"] if mask.endswith(("1,7", "5,1")) else ["Max", "Attention"])


def test_a_mask_of_one_row_for_any_number_of_queries(build, fuse):
    text = graph(VARIANTS["masked"], mask="2,1,1,7").replace("2,3,5,4", "2,3,T,4")
    fused = fuse(FuseAttention(), model_of(build, text))
    assert fused.ops == ["Max", "Shape", "Shape", "Concat", "Expand", "Attention"]


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
        (graph(VARIANTS["masked"], mask="2,1,5,W", k="2,3,K,4", v="2,3,L,6"), 23, "as wide as there are keys"),
        (graph(GUARDED, mask="2,1,5,7"), 23, "the guard tells -inf from it"),
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


# -- queries that see no key ----------------------------------------------------------------------------------

LOWEST = np.finfo(np.float32).min
SEEN = np.array([[1, 1, 1, 1, 1, 1, 1], [0] * 7, [0, 0, 1, 0, 0, 0, 0], [0] * 7, [1, 0, 0, 0, 0, 0, 1]], bool)


def feed_of(**more):
    random = np.random.default_rng(0)
    shapes = {"q": (2, 3, 5, 4), "k": (2, 3, 7, 4), "v": (2, 3, 7, 6)}
    return {**{name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}, **more}


@pytest.mark.parametrize("low", [LOWEST, -np.inf, -1e9])
def test_the_weights_of_a_query_that_sees_nothing_are_what_they_were(build, fuse, low):
    """The lowest number hides all for ONNX Runtime, where the softmax makes all weights equal."""
    text = graph(VARIANTS["masked"].replace("m = Add(a, mask)", "h = Where(seen, zero, low) m = Add(a, h)"))
    text = text.replace(" v)", " v, bool[5,7] seen)", 1)
    model = build(text, opset=23, ir_version=11, low=np.float32(low), **NUMBERS)
    seen = SEEN if np.isfinite(low) else SEEN | (SEEN.sum(-1, keepdims=True) == 0)
    fused = fuse(FuseAttention(), model, feed=feed_of(seen=seen))
    assert fused.ops == (["Where", "Max", "Attention"] if low == LOWEST else ["Where", "Attention"])


def test_layers_share_the_limit_of_their_mask(build, fuse):
    layer = (
        "t{0} = Transpose<perm=[0,1,3,2]>(k) s{0} = MatMul({1}, t{0}) m{0} = Add(s{0}, mask) "
        "p{0} = Softmax(m{0}) {2} = MatMul(p{0}, v) "
    )
    text = graph(layer.format(1, "q", "o") + layer.format(2, "o", "y"), v="2,3,7,4")
    assert fuse(FuseAttention(), model_of(build, text)).ops == ["Max", "Attention", "Attention"]


@pytest.mark.parametrize("low", [LOWEST, -np.inf])
def test_a_guard_gives_zero_where_it_did(build, fuse, low):
    text = graph(GUARDED.replace("m = Add(s, mask)", "h = Where(seen, zero, low) m = Add(s, h)"))
    text = text.replace(" v)", " v, bool[5,7] seen)", 1)
    model = build(text, opset=23, ir_version=11, low=np.float32(low), **NUMBERS)
    fused = fuse(FuseAttention(), model, feed=feed_of(seen=SEEN))
    assert fused.ops == (["Where", "Max", "Attention"] if low == LOWEST else ["Where", "Attention"])


def test_a_constant_mask_under_a_guard(build, fuse):
    mask = np.where(SEEN, 0, -np.inf).astype(np.float32)
    model = build(graph(GUARDED.replace("mask", "fixed")), opset=23, ir_version=11, fixed=mask, **NUMBERS)
    assert fuse(FuseAttention(), model, feed=feed_of()).ops == ["Attention"]


# -- grouped queries ------------------------------------------------------------------------------------------

REPEATED = (
    "k1 = Unsqueeze(k, two) k2 = Expand(k1, wide_k) k3 = Reshape(k2, all_k) "
    "v1 = Unsqueeze(v, two) v2 = Expand(v1, wide_v) v3 = Reshape(v2, all_v) "
    "t = Transpose<perm=[0,1,3,2]>(k3) s = MatMul(q, t) p = Softmax(s) y = MatMul(p, v3)"
)


def grouped(build, nodes=REPEATED, outputs="y"):
    shapes = {"wide_k": [2, 2, 3, 7, 4], "all_k": [2, 6, 7, 4], "wide_v": [2, 2, 3, 7, 6], "all_v": [2, 6, 7, 6]}
    listed = ", ".join(f"float {name}" for name in outputs.split())
    text = f"(float[2,6,5,4] q, float[2,2,7,4] k, float[2,2,7,6] v) => ({listed}) {{ {nodes} }}"
    shapes |= {"block_k": [2, 3, 2, 7, 4], "block_v": [2, 3, 2, 7, 6]}
    arrays = {name: np.array(shape) for name, shape in shapes.items() if name in nodes}
    return build(text, opset=23, ir_version=11, one=np.array([1]), two=np.array([2]), **arrays)


def test_heads_that_are_repeated_are_taken_once(build, fuse):
    assert fuse(FuseAttention(), grouped(build)).ops == ["Attention"]


def test_repeated_heads_that_others_read_stay(build, fuse):
    fused = fuse(FuseAttention(), grouped(build, REPEATED + " z = Neg(v3)", "y z"))
    assert fused.ops == ["Unsqueeze", "Expand", "Reshape", "Attention", "Neg"]


def test_heads_in_another_order_are_no_groups(build, fuse):
    """Repeated as a block, a b a b, where groups are a a b b."""
    nodes = REPEATED.replace("Unsqueeze(k, two)", "Unsqueeze(k, one)").replace("Unsqueeze(v, two)", "Unsqueeze(v, one)")
    model = grouped(build, nodes.replace("wide_k", "block_k").replace("wide_v", "block_v"))
    assert fuse(FuseAttention(), model).ops.count("Expand") == 2
