"""Elementwise work, copies of channels, and the way between planes and tensors."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from kernel_checks.harness import Images, to_codes

from graphpress.backends.tvm.codegen.functions import FUNCTIONS
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.permute import CHANNEL, PIXEL, ROW, Permute, extents
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import ApplyFunction, Destination, Divide, Multiply

IMAGES, CHANNELS, SIZE, ZERO = 2, 37, (5, 21), 7


def sigmoid(x: np.ndarray) -> np.ndarray:
    """In float64."""
    return 1 / (1 + np.exp(-x))


EXPECTED = {
    "erf": np.vectorize(math.erf),
    "exp": np.exp,
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
}


def plane(isa, dtype="float32", channels=CHANNELS, halo=None) -> Plane:
    """Channels that leave a rest, and a halo."""
    return Plane(channels, *SIZE, whole_vectors(channels, isa.lanes), halo or Halo(1, 2, 0, 1), dtype)


def test_every_function_has_an_expectation():
    assert EXPECTED.keys() == FUNCTIONS.keys()


def test_functions_of_one_number(isa, compiled):
    source, result = plane(isa), plane(isa, halo=Halo(0, 1, 0, 0))
    kernels = {name: Map(source, Destination(result), CHANNELS, (ApplyFunction(name),)) for name in EXPECTED}
    data = Images.random(source, IMAGES, np.random.default_rng(0))
    data.values[:] *= 4
    data.values[0, 0, :, 0] = np.linspace(-80, 80, SIZE[1])
    data.values[0, 1, :, 0] = np.linspace(-1e-3, 1e-3, SIZE[1])
    library = compiled(list(kernels.values()))
    for name, kernel in kernels.items():
        memory = library.run(kernel, IMAGES, Images.filled(result, IMAGES, -5).memory, source=data.memory)
        expected = EXPECTED[name](data.numbers())
        np.testing.assert_allclose(Images(result, memory).values, expected, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("codes", [False, True])
def test_channels_are_copied_to_where_they_belong(codes, isa, compiled):
    dtype = isa.dot.activations if codes else "float32"
    zero = ZERO if codes else 0
    source, result = plane(isa, dtype), plane(isa, dtype, channels=100)
    kernel = Map(source, Destination(result, zero), 30, (), zero, first=3, target=50)
    data = Images.random(source, IMAGES, np.random.default_rng(0), zero)
    target = Images.filled(result, IMAGES, 1)
    target.memory = compiled([kernel]).run(kernel, IMAGES, target.memory, source=data.memory)
    np.testing.assert_array_equal(target.values[..., 50:80], data.values[..., 3:33])
    target.values[..., 50:80] = 1
    assert np.all(target.memory == 1)


def test_quantizing_rounds_as_a_division_does(isa, compiled):
    source, result = plane(isa), plane(isa, isa.dot.activations)
    kernel = Map(source, Destination(result, ZERO), CHANNELS, (Divide(0.3),))
    data = Images.random(source, IMAGES, np.random.default_rng(0))
    data.values[0, 0, 0] = (np.arange(CHANNELS) + 0.5) * np.float32(0.3)
    memory = compiled([kernel]).run(kernel, IMAGES, Images.filled(result, IMAGES, 0).memory, source=data.memory)
    expected = to_codes(data.values / np.float32(0.3), ZERO, result.dtype)
    np.testing.assert_array_equal(Images(result, memory).values, expected)


@pytest.mark.parametrize("codes", [False, True])
def test_tensors_become_planes_and_planes_tensors(codes, isa, compiled):
    dtype = isa.dot.activations if codes else "float32"
    scale, zero = (0.5, ZERO) if codes else (1.0, 0)
    layout, dense = plane(isa, dtype), Plane(SIZE[1], CHANNELS, SIZE[0], SIZE[1])
    there = Permute(dense, Destination(layout, zero), (PIXEL, CHANNEL, ROW), (Divide(scale),))
    back = Permute(layout, Destination(dense), (CHANNEL, ROW, PIXEL), (Multiply(scale),), zero)
    kernels = compiled([there, back])
    tensor = np.random.default_rng(0).standard_normal((IMAGES, CHANNELS, *SIZE)).astype(np.float32) * 9
    memory = kernels.run(there, IMAGES, Images.filled(layout, IMAGES, zero).memory, source=tensor)
    numbers = Images(layout, memory).numbers(zero)
    expected = to_codes(tensor / scale, zero, dtype) - zero if codes else tensor
    np.testing.assert_array_equal(numbers.transpose(0, 3, 1, 2), expected)
    result = kernels.run(back, IMAGES, np.zeros_like(tensor), source=memory)
    np.testing.assert_allclose(result, expected * scale, rtol=1e-6)


@pytest.mark.parametrize("axes", permutations((ROW, PIXEL, CHANNEL)))
def test_every_order_of_axes(axes, isa, compiled):
    source = plane(isa, halo=Halo(1, 0, 0, 2))
    sizes = [extents(source)[axis] for axis in axes]
    result = Plane(sizes[2], sizes[0], sizes[1], sizes[2] + 3, Halo(0, 1, 1, 0))
    kernel = Permute(source, Destination(result), axes)
    data = Images.random(source, IMAGES, np.random.default_rng(0))
    memory = compiled([kernel]).run(kernel, IMAGES, Images.filled(result, IMAGES, 0).memory, source=data.memory)
    expected = data.values.transpose(0, *(axis + 1 for axis in axes))
    np.testing.assert_array_equal(Images(result, memory).values, expected)
