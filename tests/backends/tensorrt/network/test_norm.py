"""Normalizations lowered to TensorRT compute what ONNX Runtime computes, with statistics in single precision."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.errors import ModelError
from graphpress.ir import from_proto

RANDOM = np.random.default_rng(0)


def normal(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


def statistics(channels, dtype=np.float32):
    scale, bias, mean = (normal(channels, dtype=dtype) for _ in range(3))
    return {"scale": scale, "bias": bias, "mean": mean, "variance": np.abs(normal(channels, dtype=dtype)) + dtype(0.5)}


def kinds(network):
    return [network.get_layer(index).type.name for index in range(network.num_layers)]


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 4, 5), (1, 3, 2, 4, 5)])
@pytest.mark.parametrize("constant", [True, False])
def test_batch_normalization(bench, one_node, shape, constant):
    x, parameters = normal(*shape), statistics(3)
    if constant:
        bench.agrees(one_node("BatchNormalization", {"x": x}, parameters, epsilon=0.01, open_axes=[0]), {"x": x})
    else:
        feed = {"x": x, **parameters}
        bench.agrees(one_node("BatchNormalization", feed, epsilon=0.01), feed)


def test_known_statistics_are_two_layers(bench, one_node):
    x = normal(2, 3, 4, 5, dtype=np.float16)
    model = one_node("BatchNormalization", {"x": x}, statistics(3, np.float16))
    network = bench.lower(from_proto(model, where="test"))
    assert kinds(network).count("ELEMENTWISE") == 2
    assert "CAST" not in kinds(network)


def test_training_is_refused(bench, one_node):
    model = one_node("BatchNormalization", {"x": normal(2, 3, 4)}, statistics(3), training_mode=1, outputs=3)
    with pytest.raises(ModelError, match="training mode") as raised:
        bench.lower(from_proto(model, where="test"))
    assert "the node" in raised.value.where


@pytest.mark.parametrize("axis", [-1, 1, 2, 0])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(bench, one_node, axis, bias):
    x = normal(2, 3, 4, 5)
    constants = {"scale": normal(*x.shape[axis:])} | ({"bias": normal(*x.shape[axis:])} if bias else {})
    network = bench.agrees(one_node("LayerNormalization", {"x": x}, constants, axis=axis), {"x": x})
    assert "NORMALIZATION" in kinds(network)


def test_layer_normalization_gives_its_statistics(bench, one_node):
    x = normal(2, 3, 4)
    model = one_node("LayerNormalization", {"x": x}, {"scale": normal(4), "bias": normal(4)}, outputs=3)
    network = bench.agrees(model, {"x": x})
    assert "NORMALIZATION" not in kinds(network)


def test_layer_normalization_with_parameters_that_are_broadcast(bench, one_node):
    x = normal(2, 3, 4)
    model = one_node("LayerNormalization", {"x": x}, {"scale": normal(1, 4), "bias": normal(1)}, axis=1)
    bench.agrees(model, {"x": x})


@pytest.mark.parametrize("op_type", ["LayerNormalization", "RMSNormalization"])
def test_halves_are_summed_in_single_precision(bench, one_node, op_type):
    x = (normal(2, 3, 64) * 300).astype(np.float16)  # squares leave the range of float16
    model = one_node(op_type, {"x": x}, {"scale": normal(64, dtype=np.float16)}, opset=23)
    network = bench.lower(from_proto(model, where="test"))
    (result,) = bench.run(network, {"x": x})
    assert result.dtype == np.float16
    wide = x.astype(np.float64)
    centered = wide if op_type.startswith("RMS") else wide - wide.mean(-1, keepdims=True)
    scale = model.graph.initializer[0]
    expected = centered / np.sqrt((centered**2).mean(-1, keepdims=True)) * np.frombuffer(scale.raw_data, np.float16)
    np.testing.assert_allclose(result.astype(np.float64), expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 4, 5, 6), (1, 4, 3, 4, 5)])
def test_instance_normalization(bench, one_node, shape):
    x = normal(*shape)
    constants = {"scale": normal(4), "bias": normal(4)}
    model = one_node("InstanceNormalization", {"x": x}, constants, open_axes=[0], epsilon=0.01)
    bench.build(bench.agrees(model, {"x": x}))


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("missing", [(), ("add_normalization_v2",)])
@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 6, 4, 5)])
def test_group_normalization_of_both_operator_sets_and_both_layers(
    bench, one_node, lower_without, opset, missing, shape
):
    x, groups = normal(*shape), 3
    size = groups if opset == 18 else 6
    scale, bias = normal(size), normal(size)
    model = one_node("GroupNormalization", {"x": x}, {"scale": scale, "bias": bias}, opset=opset, num_groups=groups)
    network = lower_without(model, *missing)
    (result,) = bench.run(network, {"x": x})
    data = x.reshape(2, groups, -1)
    centered = data - data.mean(2, keepdims=True)
    plain = (centered / np.sqrt((centered**2).mean(2, keepdims=True) + 1e-5)).reshape(shape)
    channels = [np.repeat(one, 6 // size).reshape(-1, *(1,) * (len(shape) - 2)) for one in (scale, bias)]
    np.testing.assert_allclose(result, plain * channels[0] + channels[1], rtol=1e-4, atol=1e-5)
    assert bench.build(network) > 0


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 17])
@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 6, 4, 3)])
def test_local_response_of_any_window(bench, one_node, size, shape):
    x = normal(*shape)
    squares = np.pad(x**2, [(0, 0), ((size - 1) // 2, size - 1 - (size - 1) // 2), *[(0, 0)] * (len(shape) - 2)])
    sums = sum(squares[:, first : first + 6] for first in range(size))
    network = bench.lower(
        from_proto(one_node("LRN", {"x": x}, size=size, alpha=0.5, bias=2.0, open_axes=[0]), where="test")
    )
    (result,) = bench.run(network, {"x": x})
    np.testing.assert_allclose(result, x / (2.0 + 0.5 / size * sums) ** 0.75, rtol=1e-5)
    assert bench.build(network) > 0


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("axis", [0, -1])
def test_what_is_all_zero_stays_zero_in_lp_normalization(bench, one_node, order, axis):
    x = normal(3, 4)
    x[1], x[:, 2] = 0, 0
    network = bench.lower(from_proto(one_node("LpNormalization", {"x": x}, p=order, axis=axis), where="test"))
    (result,) = bench.run(network, {"x": x})
    size = np.linalg.norm(x, order, axis, keepdims=True)
    np.testing.assert_allclose(result, x / np.where(size == 0, 1, size), rtol=1e-5)


def test_mean_variance_normalization_of_halves(bench, one_node):
    x = (normal(2, 3, 4, 5) * 300).astype(np.float16)
    network = bench.lower(from_proto(one_node("MeanVarianceNormalization", {"x": x}), where="test"))
    (result,) = bench.run(network, {"x": x})
    wide = x.astype(np.float64)
    expected = (wide - wide.mean((0, 2, 3), keepdims=True)) / wide.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(result.astype(np.float64), expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize(
    "op_type", ["BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization"]
)
def test_engines_of_halves(bench, one_node, op_type):
    x = normal(2, 4, 8, 8, dtype=np.float16)
    one = {"scale": normal(8, dtype=np.float16)}
    four = {"scale": normal(4, dtype=np.float16), "bias": normal(4, dtype=np.float16)}
    constants = {
        "BatchNormalization": statistics(4, np.float16),
        "GroupNormalization": four,
        "LayerNormalization": one,
        "RMSNormalization": one,
    }[op_type]
    attributes = {"num_groups": 2} if op_type == "GroupNormalization" else {}
    model = one_node(op_type, {"x": x}, constants, opset=23, open_axes=[0], **attributes)
    assert bench.build(bench.lower(from_proto(model, where="test"))) > 0
