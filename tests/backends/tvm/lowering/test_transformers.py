"""Attention, products of activations and normalizations as nodes, in whole graphs against ONNX Runtime."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from kernel_checks.graphs import assert_like_onnxruntime, graph

from graphpress.backends.tvm.lowering.context import Lowering
from graphpress.backends.tvm.lowering.layout import natural
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.lowering.refusal import UnsupportedError
from graphpress.backends.tvm.lowering.rules import RULES
from graphpress.ir import static_shape

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    """Random floats."""
    return RNG.standard_normal(shape).astype(np.float32)


CASES = {
    "rows and planes are normalized": (
        """(float[2, 21, 5, 6] x, float[2, 7, 9] s) => (float[2, 21, 5, 6] a, float[2, 5, 6, 21] d,
                                                        float[2, 7, 9] e, float[2, 21, 5, 6] f, float[2, 7, 9] g) {
            a = InstanceNormalization(x, scale, bias)
            b = Transpose<perm = [0, 2, 3, 1]>(x)
            c = LayerNormalization<axis = -1, epsilon = 1e-3>(b, scale, bias)
            h = RMSNormalization<axis = 3>(c, scale)
            d = Relu(h)
            e = LogSoftmax<axis = 1>(s)
            f = GroupNormalization<num_groups = 3>(x, scale, bias)
            g = InstanceNormalization(s, seven, seven)
        }""",
        {"scale": normal(21), "bias": normal(21), "seven": normal(7)},
    ),
    "activations are multiplied": (
        """(float[2, 3, 5, 8] x, float[3, 8, 7] y, float[8, 5] p) => (float[2, 3, 5, 7] a, float[2, 3, 5, 7] b,
                                                                      float[5, 5] d, float[2, 3, 5, 4] e) {
            a = MatMul(x, y)
            t = Transpose<perm = [0, 1, 3, 2]>(a)
            u = Transpose<perm = [0, 1, 3, 2]>(t)
            v = Softmax(u)
            b = Add(v, a)
            d = Gemm<transA = 1, transB = 1, alpha = 0.5>(p, q)
            e = MatMul(x, stack)
        }""",
        {"q": normal(5, 8), "stack": normal(3, 8, 4)},
    ),
    "rows of weights": (
        """(float[2, 3, 20] x, float[20, 6] y) => (float[3, 2, 5] c, float[6, 4] d) {
            a = Transpose<perm = [1, 0, 2]>(x)
            b = MatMul(a, v)
            c = Add(b, shift)
            d = Gemm<transA = 1, alpha = 0.5>(y, w, four)
        }""",
        {"v": normal(20, 5), "shift": normal(5), "w": normal(20, 4), "four": normal(4)},
    ),
    "attention by heads": (
        """(float[2, 6, 24] q, float[2, 9, 16] k, float[2, 9, 12] v, float[2, 1, 6, 9] m) => (float[2, 6, 20] z) {
            a = MatMul(q, wq)
            qs = Reshape(a, heads)
            qh = Transpose<perm = [0, 2, 1, 3]>(qs)
            ks = Reshape(k, heads2)
            kh = Transpose<perm = [0, 2, 1, 3]>(ks)
            vs = Reshape(v, heads2)
            vh = Transpose<perm = [0, 2, 1, 3]>(vs)
            y = Attention(qh, kh, vh, m)
            t = Transpose<perm = [0, 2, 1, 3]>(y)
            merged = Reshape(t, flat)
            z = MatMul(merged, wo)
        }""",
        {
            "wq": normal(24, 32),
            "heads": np.array([2, 6, 4, 8]),
            "heads2": np.array([2, 9, 2, -1]),
            "flat": np.array([2, 6, 24]),
            "wo": normal(24, 20),
        },
    ),
    "attention of one axis with a hidden key": (
        """(float[2, 6, 24] q, float[2, 9, 16] k, float[2, 9, 12] v) => (float[2, 6, 18] y) {
            y = Attention<q_num_heads = 3, kv_num_heads = 1, scale = 0.2, softcap = 1.5>(q, k2, v2, seen)
        }""",
        {"seen": RNG.random((6, 9)) < 0.7, "k2": normal(2, 9, 8), "v2": normal(2, 9, 6)},
    ),
    "causal by a constant": (
        """(float[1, 4, 5, 8] q, float[1, 4, 9, 8] k) => (float[1, 4, 5, 8] y) { y = Attention(q, k, k, m) }""",
        {"m": np.tri(5, 9, 4, dtype=bool)[None, None]},
    ),
    "causal attention with a cache": (
        """(float[1, 4, 2, 8] q, float[1, 2, 2, 8] k, float[1, 2, 2, 5] v, float[1, 2, 3, 8] pk, float[1, 2, 3, 5] pv)
            => (float[1, 4, 2, 5] y, float[1, 2, 5, 8] nk, float[1, 2, 5, 5] nv) {
            y, nk, nv = Attention<is_causal = 1>(q, k, v, , pk, pv)
        }""",
        {},
    ),
}


def feed_of(model) -> dict[str, np.ndarray]:
    """Random inputs."""
    return {value.name: normal(*static_shape(value)) for value in model.graph.inputs}


@pytest.mark.parametrize("name", CASES)
def test_as_onnxruntime(name, newest, tmp_path):
    text, weights = CASES[name]
    model = graph(text, opset=23, **weights)
    assert_like_onnxruntime(model, feed_of(model), newest, tmp_path)


def test_rows_of_tables_and_even_places(newest, tmp_path):
    model = graph(
        """(int64[2, 5] ids, int32[3] kinds, float[2, 4, 7, 6] x) => (float[2, 5, 20] c, float[3, 20] d,
                                                                      float[2, 4, 6] e, float[2, 4, 2, 2, 6] f) {
            a = Gather(table, ids)
            b = Relu(a)
            c = Add(b, b)
            d = Gather(table, kinds)
            e = Gather<axis = 2>(x, last)
            f = Gather<axis = -2>(x, even)
        }""",
        opset=23,
        table=normal(9, 20),
        last=np.array(-1),
        even=np.array([[6, 4], [2, 0]]),
    )
    ids, kinds = RNG.integers(-9, 9, (2, 5)), np.array([8, 0, -1], np.int32)
    assert_like_onnxruntime(model, {"ids": ids, "kinds": kinds, "x": normal(2, 4, 7, 6)}, newest, tmp_path)


def test_masks_of_integers(newest, tmp_path):
    text = """(int64[2, 5] m, bool[2, 5] s, float[2, 3, 6, 8] q, float[2, 3, 5, 8] k)
        => (float[2, 3, 6, 8] y, float[2, 1, 1, 5] b, float[2, 5] f) {
            a = Unsqueeze(m, front)
            b = Cast<to = 1>(a)
            c = Mul(b, huge)
            d = Add(c, huge)
            e = Expand(d, spread)
            y = Attention(q, k, k, e)
            f = Cast<to = 1>(s)
        }"""
    model = graph(
        text, opset=23, front=np.array([1, 2]), spread=np.array([2, 1, 6, 5]), huge=np.array(-3e38, np.float32)
    )
    masks = {"m": -RNG.integers(0, 2, (2, 5)), "s": RNG.random((2, 5)) < 0.5}
    feed = {**masks, "q": normal(2, 3, 6, 8), "k": normal(2, 3, 5, 8)}
    assert_like_onnxruntime(model, feed, newest, tmp_path)


def test_integers_of_every_size_become_floats(newest, tmp_path):
    model = graph("(int64[1, 37] x) => (float[1, 37] z) { z = Cast<to = 1>(x) }")
    assert_like_onnxruntime(model, {"x": RNG.integers(-(1 << 60), 1 << 60, (1, 37))}, newest, tmp_path)


SEEN = np.tri(5, 9, 4, dtype=bool)


@pytest.mark.parametrize(
    ("mask", "edge"),
    [
        (SEEN, 4),
        (np.where(SEEN, 0, -3e38).astype(np.float32)[None], 4),
        (np.where(SEEN, 1, -3e38).astype(np.float32), None),
        (SEEN & ~np.eye(5, 9, dtype=bool), None),
        (np.tri(5, 9, -1, dtype=bool), None),
    ],
    ids=["truth", "numbers", "another number", "another hidden", "a query sees nothing"],
)
def test_a_constant_causal_mask_is_an_edge(mask, edge, newest):
    text = """(float[1, 2, 5, 4] q, float[1, 2, 9, 4] k) => (float[1, 2, 5, 4] y) { y = Attention(q, k, k, m) }"""
    (kernel,) = (
        step.kernel for step in lower(graph(text, opset=23, m=mask), newest).steps if "mask" in vars(step.kernel)
    )
    assert kernel.edge == edge
    assert (kernel.mask is None) == (edge is not None)


def test_pairs_are_turned_by_the_angles_of_their_positions(newest, tmp_path):
    model = graph(
        """(float[2, 3, 5, 40] x, float[2, 5, 18] y, int64[2, 5] places, float[2, 5, 3] c, float[2, 5, 3] s,
            float[9, 18] cosines) => (float[2, 3, 5, 40] a, float[2, 5, 18] b, float[2, 3, 5, 40] d) {
            a = RotaryEmbedding<rotary_embedding_dim = 36>(x, cosines, sines, places)
            b = RotaryEmbedding<num_heads = 3, interleaved = 1>(y, c, s)
            d = RotaryEmbedding<interleaved = 1>(x, wide, wide, places)
        }""",
        opset=23,
        sines=normal(9, 18),
        wide=normal(9, 20),
    )
    floats = {
        "x": normal(2, 3, 5, 40),
        "y": normal(2, 5, 18),
        "c": normal(2, 5, 3),
        "s": normal(2, 5, 3),
        "cosines": normal(9, 18),
    }
    assert_like_onnxruntime(model, {**floats, "places": RNG.integers(0, 9, (2, 5))}, newest, tmp_path)


REFUSED = {
    "vector": "(float[3, 4] x, float[4] v) => (float[3] z) { z = MatMul(x, v) }",
    "several axes": "(float[2, 3, 4] x) => (float[2, 3, 4] z) { z = LayerNormalization<axis = 1>(x, s) }",
    "statistics": "(float[2, 4] x) => (float[2, 4] z, float[2, 1] m) { z, m = LayerNormalization(x, r) }",
    "constants": "(float[2, 4] x, float[4] w) => (float[2, 4] z) { z = RMSNormalization(x, w) }",
    "progression": "(float[5, 4] x) => (float[3, 4] z) { z = Gather(x, uneven) }",
    "int64, no float32": "(int64[2, 3] x, int64[3, 2] y) => (int64[2, 2] z) { z = MatMul(x, y) }",
    "cache": """(float[1, 2, 3, 4] x) => (float[1, 2, 3, 4] z, float[1, 2, 3, 4] c)
                { z, c = Attention(x, x, x) }""",
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused_by_reason(why, newest):
    """What follows from that is another matter: TVM's own loops take some of them."""
    model = graph(REFUSED[why], opset=23, s=normal(3, 4), r=normal(4), uneven=np.array([0, 1, 3]))
    lowering = Lowering(newest, {})
    for value in model.graph.inputs:
        lowering.room(value, None, natural(len(value.shape)))
    (node,) = model.graph
    with pytest.raises(UnsupportedError, match=why):
        RULES[node.op_type](node, lowering)
