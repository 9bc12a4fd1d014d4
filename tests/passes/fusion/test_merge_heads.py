"""merge_heads: attention reads and writes [batch, length, heads·size] where nothing else wants the heads."""

import numpy as np
import pytest

from graphpress.ir import int_attribute
from graphpress.passes.fusion.merge_heads import MergeHeads

SPLIT = (
    "a = Reshape(q, to_q) b = Transpose<perm=[0,2,1,3]>(a) c = Reshape(k, to_k) d = Transpose<perm=[0,2,1,3]>(c) "
    "e = Reshape(v, to_v) f = Transpose<perm=[0,2,1,3]>(e) "
)
JOIN = "h = Transpose<perm=[0,2,1,3]>(g) y = Reshape(h, back)"
FORMS = {
    "plain": SPLIT + "g = Attention(b, d, f) " + JOIN,
    "scaled and causal": SPLIT + "g = Attention<scale=0.3, is_causal=1>(b, d, f) " + JOIN,
    "masked": SPLIT + "g = Attention(b, d, f, mask) " + JOIN,
}


def model_of(build, nodes, outputs="y", kv=6, dims="2,5", back=(0, 0, 30), **more):
    """Six heads of four for queries and keys and of five for values; of ``kv`` heads for keys and values."""
    listed = ", ".join(f"float {name}" for name in outputs.split())
    mask = ", float[5,7] mask" if "mask" in nodes else ""
    arrays = {"to_q": [0, 0, 6, 4], "to_k": [0, 0, kv, 4], "to_v": [0, 0, kv, 5], "back": list(back), **more}
    text = f"(float[{dims},24] q, float[2,7,{4 * kv}] k, float[2,7,{5 * kv}] v{mask}) => ({listed}) {{ {nodes} }}"
    return build(text, opset=23, ir_version=11, **{name: np.array(shape) for name, shape in arrays.items()})


@pytest.mark.parametrize("kv", [6, 2])
@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_copied_around_it(build, fuse, form, kv):
    fused = fuse(MergeHeads(), model_of(build, FORMS[form], kv=kv))
    assert fused.ops == ["Attention"]
    (node,) = fused.model.graph
    assert (int_attribute(node, "q_num_heads", 0), int_attribute(node, "kv_num_heads", 0)) == (6, kv)
    assert int_attribute(node, "is_causal", 0) == ("causal" in form)


def test_what_is_reshaped_to_something_else_is_reshaped_from_there(build, fuse):
    model = model_of(build, SPLIT + "g = Attention(b, d, f) " + JOIN, back=(-1, 30))
    assert fuse(MergeHeads(), model).ops == ["Attention", "Reshape"]


def test_a_reshape_that_copies_the_size_of_a_head_keeps_the_heads(build, refusals):
    assert refusals(MergeHeads(), model_of(build, SPLIT + "g = Attention(b, d, f) " + JOIN, back=(2, -1, 0))) == []


@pytest.mark.parametrize("dims", ["N,5", "2,T", "N,T"])
def test_open_sizes_stay_open(build, fuse, dims):
    nodes = SPLIT + "g = Attention(b, d, f) " + JOIN
    model = model_of(build, nodes.replace("(k, to_k)", "(q, to_k)").replace("(v, to_v)", "(q, to_v)"), dims=dims,
                     to_k=(0, 0, 6, 4), to_v=(0, 0, 6, 4), back=(0, 0, 24))  # fmt: skip
    assert fuse(MergeHeads(), model).ops == ["Attention"]


def test_refuses_where_heads_have_another_reader(build, refusals):
    model = model_of(build, FORMS["plain"] + " z = Neg(d)", "y z")
    assert any("another reader" in why for why in refusals(MergeHeads(), model))


@pytest.mark.parametrize(
    "nodes",
    [
        FORMS["plain"].replace("g = Attention(b, d, f)", "r = Neg(d) g = Attention(b, r, f)"),
        FORMS["plain"].replace("b = Transpose<perm=[0,2,1,3]>(a)", "b = Reshape(a, other)"),
        SPLIT + "y = Attention(b, d, f)",
        SPLIT + "g = Attention(b, d, f) y = Transpose<perm=[0,2,3,1]>(g)",
    ],
    ids=["something between", "another order", "heads are wanted", "other result"],
)  # fmt: skip
def test_leaves_other_operands_alone(build, refusals, nodes):
    assert refusals(MergeHeads(), model_of(build, nodes, other=(2, 6, 5, 4))) == []
