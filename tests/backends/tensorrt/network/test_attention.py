"""Attention and rotary embedding: masks, caches, grouped heads, TensorRT's own layer where nothing else is asked."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.errors import ModelError
from graphpress.ir import from_proto

RANDOM = np.random.default_rng(0)
OPSET = 24


def normal(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


def kinds(network):
    return [network.get_layer(index).type.name for index in range(network.num_layers)]


def reference(query, key, value, bias=0.0, scale=None):
    """Attention of [batch, heads, sequence, width]; a query that sees nothing gives zero."""
    repeats = query.shape[1] // key.shape[1]
    key, value = np.repeat(key, repeats, 1), np.repeat(value, repeats, 1)
    scores = query @ np.swapaxes(key, -1, -2) * (scale or 1 / np.sqrt(query.shape[-1])) + bias
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isinf(top), 0, top))
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) @ value


def operands(heads=4, shared=4, queries=5, keys=5, width=8):
    return {
        "q": normal(2, heads, queries, width),
        "k": normal(2, shared, keys, width),
        "v": normal(2, shared, keys, width),
    }


def causal(queries, keys, offset=0):
    return np.where(np.arange(keys) <= np.arange(queries)[:, None] + offset, 0.0, -np.inf)


def result(bench, model, feed):
    network = bench.lower(from_proto(model, where="test"))
    return network, bench.run(network, feed)


@pytest.mark.parametrize("shared", [4, 2, 1])
@pytest.mark.parametrize("is_causal", [0, 1])
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 6)])
def test_plain_attention_is_one_layer(bench, one_node, shared, is_causal, queries, keys):
    feed = operands(shared=shared, queries=queries, keys=keys)
    network, (y,) = result(bench, one_node("Attention", feed, opset=OPSET, is_causal=is_causal, open_axes=[0]), feed)
    assert "ATTENTION_INPUT" in kinds(network)
    bias = causal(queries, keys) if is_causal else 0.0
    np.testing.assert_allclose(y, reference(*feed.values(), bias), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("missing", [("add_attention_v2",), ("add_attention", "add_attention_v2")])
@pytest.mark.parametrize("cached", [True, False])
def test_older_versions_express_it_out(bench, one_node, lower_without, missing, cached):
    feed = operands(shared=2)
    past = {"past_key": normal(2, 2, 3, 8), "past_value": normal(2, 2, 3, 8)} if cached else {}
    order = ["q", "k", "v", "", *past] if cached else ["q", "k", "v"]
    model = one_node("Attention", {**feed, **past}, opset=OPSET, order=order, outputs=3, is_causal=1)
    network = lower_without(model, *missing)
    assert ("ATTENTION_INPUT" in kinds(network)) == (not cached and "add_attention" not in missing)
    whole = [
        np.concatenate([past[f"past_{name}"], feed[name[0]]], 2) if cached else feed[name[0]]
        for name in ("key", "value")
    ]
    y, *_ = bench.run(network, {**feed, **past})
    np.testing.assert_allclose(
        y, reference(feed["q"], *whole, causal(5, whole[0].shape[2], 3 * cached)), rtol=1e-4, atol=1e-5
    )


def test_heads_that_share_an_axis_with_the_width(bench, one_node):
    feed = {"q": normal(2, 5, 32), "k": normal(2, 5, 16), "v": normal(2, 5, 16)}
    model = one_node("Attention", feed, opset=OPSET, q_num_heads=4, kv_num_heads=2, open_axes=[0, 1], scale=0.3)
    _, (y,) = result(bench, model, feed)
    apart = [one.reshape(2, 5, -1, 8).transpose(0, 2, 1, 3) for one in feed.values()]
    expected = reference(*apart, scale=0.3).transpose(0, 2, 1, 3).reshape(2, 5, 32)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("boolean", [True, False])
@pytest.mark.parametrize("shape", [(5, 6), (2, 1, 5, 6), (2, 4, 5, 6)])
def test_masks(bench, one_node, boolean, shape):
    feed = operands(keys=6)
    bias = np.where(RANDOM.random(shape) < 0.7, normal(*shape), -np.inf)
    bias[..., 2, :] = -np.inf  # this query sees nothing
    mask = np.isfinite(bias) if boolean else bias.astype(np.float32)
    network, (y,) = result(bench, one_node("Attention", {**feed, "mask": mask}, opset=OPSET), {**feed, "mask": mask})
    expected = reference(*feed.values(), np.where(mask, 0.0, -np.inf) if boolean else bias)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert bench.build(network) > 0


def test_a_mask_of_another_type_takes_that_of_the_query(bench, one_node):
    feed = {name: one.astype(np.float16) for name, one in operands().items()}
    mask = np.where(RANDOM.random((5, 5)) < 0.7, 0.0, np.finfo(np.float32).min).astype(np.float32)
    network, (y,) = result(bench, one_node("Attention", {**feed, "mask": mask}, opset=OPSET), {**feed, "mask": mask})
    assert y.dtype == np.float16
    expected = reference(*(one.astype(np.float32) for one in feed.values()), np.where(mask < 0, -np.inf, 0.0))
    np.testing.assert_allclose(y.astype(np.float32), expected, atol=5e-3)
    assert bench.build(network) > 0


@pytest.mark.parametrize("scale", [0.25, -0.5])
def test_any_scale(bench, one_node, scale):
    feed = operands()
    _, (y,) = result(bench, one_node("Attention", feed, opset=OPSET, scale=scale), feed)
    np.testing.assert_allclose(y, reference(*feed.values(), scale=scale), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_causal", [0, 1])
def test_a_cache_goes_before_the_keys(bench, one_node, is_causal):
    feed = operands(queries=2, keys=2)
    past = {"past_key": normal(2, 4, 3, 8), "past_value": normal(2, 4, 3, 8)}
    order = ["q", "k", "v", "", "past_key", "past_value"]
    model = one_node("Attention", {**feed, **past}, opset=OPSET, outputs=3, order=order, is_causal=is_causal)
    network, (y, key, value) = result(bench, model, {**feed, **past})
    assert "ATTENTION_INPUT" in kinds(network)
    whole = [np.concatenate([past[f"past_{name}"], feed[name[0]]], 2) for name in ("key", "value")]
    np.testing.assert_array_equal(key, whole[0])
    np.testing.assert_array_equal(value, whole[1])
    bias = causal(2, 5, offset=3) if is_causal else 0.0
    np.testing.assert_allclose(y, reference(feed["q"], *whole, bias), rtol=1e-4, atol=1e-5)
    assert bench.build(network) > 0


def test_halves_with_a_softmax_in_single_precision(bench, one_node):
    feed = {name: one.astype(np.float16) for name, one in operands().items()}
    network, (y,) = result(bench, one_node("Attention", feed, opset=OPSET, softmax_precision=1), feed)
    assert y.dtype == np.float16
    assert "SOFTMAX" in kinds(network)
    np.testing.assert_allclose(
        y.astype(np.float32), reference(*(one.astype(np.float32) for one in feed.values())), atol=5e-3
    )


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_the_scores_at_every_stage(bench, one_node, mode):
    feed = operands()
    attributes = {"qk_matmul_output_mode": mode, "softcap": 2.0, "is_causal": 1}
    model = one_node("Attention", feed, opset=OPSET, outputs=4, **attributes)
    for value in model.graph.output[1:3]:
        model.graph.output.remove(value)
    _, (y, shown) = result(bench, model, feed)
    scores = feed["q"] @ np.swapaxes(feed["k"], -1, -2) / np.sqrt(8)
    capped = 2 * np.tanh(scores / 2)
    biased = capped + causal(5, 5)
    weights = np.exp(biased) / np.exp(biased).sum(-1, keepdims=True)
    np.testing.assert_allclose(shown, (scores, capped, biased, weights)[mode], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(y, weights @ feed["v"], rtol=1e-3, atol=1e-5)


def test_a_width_that_heads_do_not_divide_is_refused(bench, one_node):
    feed = {name: normal(2, 5, 32) for name in "qkv"}
    with pytest.raises(ModelError, match="no 5 heads of equal width") as raised:
        bench.lower(from_proto(one_node("Attention", feed, opset=OPSET, q_num_heads=5, kv_num_heads=4), where="test"))
    assert "the node" in raised.value.where


def test_heads_that_do_not_share_evenly_are_refused(bench, one_node):
    model = one_node("Attention", operands(heads=4, shared=3), opset=OPSET, softcap=1.0)
    with pytest.raises(ModelError, match="cannot share") as raised:
        bench.lower(from_proto(model, where="test"))
    assert "the node" in raised.value.where


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_engines(bench, one_node, dtype):
    feed = {name: one.astype(dtype) for name, one in operands(shared=2).items()}
    for attributes in ({"is_causal": 1}, {"softcap": 5.0, "is_causal": 1}):
        model = one_node("Attention", feed, opset=OPSET, open_axes=[0], **attributes)
        assert bench.build(bench.lower(from_proto(model, where="test"))) > 0


# -- rotary embedding ---------------------------------------------------------------------------------------------


def turned(x, cosine, sine, interleaved):
    """[batch, heads, sequence, 2n] with angles [batch, 1, sequence, n]."""
    half = x.shape[-1] // 2
    one, other = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    parts = cosine * one - sine * other, sine * one + cosine * other
    return np.stack(parts, -1).reshape(x.shape) if interleaved else np.concatenate(parts, -1)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rotated", [8, 4])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("with_positions", [False, True])
def test_rotary_embedding(bench, one_node, interleaved, rotated, flat, with_positions):
    x, positions = normal(2, 3, 5, 8), RANDOM.integers(0, 9, (2, 5))
    angles = normal(*((9,) if with_positions else (2, 5)), rotated // 2)
    tables = {"cos": np.cos(angles), "sin": np.sin(angles)}
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": rotated if rotated < 8 else 0}
    data = x.transpose(0, 2, 1, 3).reshape(2, 5, 24) if flat else x
    if flat:
        attributes["num_heads"] = 3
    feed = {"x": data, **tables} | ({"positions": positions} if with_positions else {})
    network, (y,) = result(bench, one_node("RotaryEmbedding", feed, opset=OPSET, **attributes), feed)
    cosine, sine = ((one[positions] if with_positions else one)[:, None] for one in tables.values())
    expected = np.concatenate([turned(x[..., :rotated], cosine, sine, interleaved), x[..., rotated:]], -1)
    expected = expected.transpose(0, 2, 1, 3).reshape(2, 5, 24) if flat else expected
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert bench.build(network) > 0
