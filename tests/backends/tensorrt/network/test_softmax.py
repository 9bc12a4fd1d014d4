"""Softmax, its logarithm and its hard form along one axis or several."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.errors import ModelError
from graphpress.ir import from_proto

RANDOM = np.random.default_rng(0)
OPERATORS = ("Softmax", "LogSoftmax", "Hardmax")


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("op_type", OPERATORS)
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize(
    ("shape", "axis"), [((5,), 0), ((2, 3, 4), -1), ((2, 3, 4), 1), ((2, 3, 4), 0), ((2, 3, 4, 5), 2)]
)
def test_along_an_axis(bench, one_node, op_type, opset, shape, axis):
    x = normal(*shape)
    network = bench.agrees(one_node(op_type, {"x": x}, opset=opset, axis=axis), {"x": x})
    assert bench.build(network) > 0


@pytest.mark.parametrize("op_type", OPERATORS)
def test_an_open_batch(bench, one_node, op_type):
    x = normal(2, 3, 4)
    network = bench.agrees(one_node(op_type, {"x": x}, open_axes=[0, 2]), {"x": x})
    assert bench.build(network) > 0
    bench.agrees(one_node(op_type, {"x": x}, opset=11, open_axes=[0, 1], axis=1), {"x": x})


@pytest.mark.parametrize("op_type", OPERATORS)
def test_integers_are_refused(bench, one_node, op_type):
    with pytest.raises(ModelError, match="floats only") as raised:
        bench.lower(from_proto(one_node(op_type, {"x": np.ones((2, 3), np.int32)}), where="test"))
    assert "the node" in raised.value.where


def test_the_logarithm_stays_finite(bench, one_node):
    x = np.array([[0.0, 200.0, -200.0]], np.float32)
    network = bench.lower(from_proto(one_node("LogSoftmax", {"x": x}), where="test"))
    np.testing.assert_allclose(bench.run(network, {"x": x})[0], [[-200.0, 0.0, -400.0]])


def test_the_first_of_the_largest(bench, one_node):
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], np.float32)
    network = bench.lower(from_proto(one_node("Hardmax", {"x": x}), where="test"))
    np.testing.assert_array_equal(bench.run(network, {"x": x})[0], [[0, 1, 0], [1, 0, 0]])
