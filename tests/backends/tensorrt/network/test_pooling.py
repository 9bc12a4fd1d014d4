"""Pools lowered to TensorRT compute what ONNX says, where TensorRT rounds and pads otherwise too."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphpress.errors import ModelError
from graphpress.ir import from_proto

RANDOM = np.random.default_rng(0)


def normal(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


def refused(bench, model, why):
    with pytest.raises(ModelError, match=why) as raised:
        bench.lower(from_proto(model, where="test"))
    assert "the node" in raised.value.where


WINDOWS = {
    "plain": {"kernel_shape": [2, 3]},
    "strided": {"kernel_shape": [3, 2], "strides": [2, 3]},
    "padded": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 2]},
    "rounded up": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "rounded up, padded": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    "last window on the padding": {"kernel_shape": [1, 2], "strides": [2, 2], "pads": [0, 1, 0, 1], "ceil_mode": 1},
    "same": {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "same, lower": {"kernel_shape": [2, 4], "auto_pad": "SAME_LOWER"},
    "dilated": {"kernel_shape": [2, 2], "dilations": [2, 3], "pads": [1, 1, 1, 1]},
    "dilated, rounded up": {"kernel_shape": [2, 2], "dilations": [2, 2], "strides": [2, 3], "ceil_mode": 1},
}
SIZES = [(7, 8), (8, 7)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "AveragePool with padding", "LpPool", "LpPool 3"])
def test_windows(bench, one_node, kind, name, size):
    x, attributes = normal(2, 3, *size), dict(WINDOWS[name])
    if kind == "AveragePool with padding":
        attributes["count_include_pad"] = 1
    if kind == "LpPool 3":
        attributes["p"] = 3
    network = bench.agrees(one_node(kind.split()[0], {"x": x}, open_axes=[0], **attributes), {"x": x})
    assert bench.build(network) > 0


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("space", [(9,), (4, 5, 6)])
def test_one_and_three_axes(bench, one_node, kind, space):
    rank = len(space)
    attributes = {"kernel_shape": [3] * rank, "strides": [2] * rank, "pads": [1] * (2 * rank), "ceil_mode": 1}
    x = normal(2, 3, *space)
    bench.agrees(one_node(kind, {"x": x}, open_axes=[0], **attributes), {"x": x})


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("name", ["plain", "padded", "rounded up", "same", "same, lower"])
def test_open_sizes(bench, one_node, kind, name):
    x = normal(1, 2, 7, 8)
    bench.agrees(one_node(kind, {"x": x}, open_axes=[2, 3], **WINDOWS[name]), {"x": x})


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("MaxPool", WINDOWS["last window on the padding"]),
        ("AveragePool", WINDOWS["last window on the padding"]),
        ("AveragePool", WINDOWS["same"] | {"count_include_pad": 1}),
        ("LpPool", WINDOWS["same"]),
        ("LpPool", WINDOWS["rounded up"]),
        ("MaxPool", WINDOWS["dilated"]),
        ("AveragePool", WINDOWS["dilated"]),
    ],
)
def test_what_depends_on_an_open_size_is_refused(bench, one_node, kind, attributes):
    refused(bench, one_node(kind, {"x": normal(1, 2, 7, 8)}, open_axes=[2], **attributes), "open")


def test_a_mean_over_windows_of_nothing_but_padding_is_not_left_to_tensorrt(bench, one_node):
    attributes = {"kernel_shape": [2, 2], "pads": [2, 2, 2, 2], "count_include_pad": 1}
    x = normal(1, 1, 4, 4)
    network = bench.lower(from_proto(one_node("AveragePool", {"x": x}, **attributes), where="test"))
    (result,) = bench.run(network, {"x": x})
    padded = np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 2), (2, 3))
    np.testing.assert_allclose(result, windows.mean((-1, -2)), rtol=1e-5, atol=1e-6)


def test_places_of_the_largest_are_refused(bench, one_node):
    model = one_node("MaxPool", {"x": normal(1, 1, 4, 4)}, outputs=2, kernel_shape=[2, 2])
    refused(bench, model, "places of the largest")


def test_bytes_pass_the_largest_on(bench, one_node):
    x = RANDOM.integers(-128, 127, (1, 3, 8, 8)).astype(np.int8)
    network = bench.lower(from_proto(one_node("MaxPool", {"x": x}, kernel_shape=[2, 2], strides=[2, 2]), where="test"))
    (result,) = bench.run(network, {"x": x})
    assert result.dtype == np.int8
    np.testing.assert_array_equal(result, x.reshape(1, 3, 4, 2, 4, 2).max((3, 5)))
    assert bench.build(network) > 0


def test_unsigned_bytes_are_refused(bench, one_node):
    x = np.zeros((1, 1, 4, 4), np.uint8)
    refused(bench, one_node("MaxPool", {"x": x}, kernel_shape=[2, 2]), "uint8")


@pytest.mark.parametrize("shape", [None, (1, 1, 5, 6)])
def test_max_unpool(bench, one_node, shape):
    x = normal(1, 1, 2, 2)
    places = np.array([[[[5, 7], [13, 15]]]])
    constants = {} if shape is None else {"shape": np.array(shape)}
    model = one_node("MaxUnpool", {"x": x, "places": places}, constants, kernel_shape=[2, 2], strides=[2, 2])
    network = bench.lower(from_proto(model, where="test"))
    (result,) = bench.run(network, {"x": x, "places": places})
    expected = np.zeros((1, 1, *(shape or (1, 1, 4, 4))[2:]), np.float32)
    for (row, column), value in zip(itertools.product((1, 3), (1, 3)), x.reshape(-1), strict=True):
        expected[0, 0, row, column] = value
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5)])
def test_whole_space(bench, one_node, op_type, shape):
    x = normal(*shape)
    bench.agrees(one_node(op_type, {"x": x}, opset=17, open_axes=[0, *range(2, len(shape))]), {"x": x})
