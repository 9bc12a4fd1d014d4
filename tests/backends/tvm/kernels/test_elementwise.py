"""Elementwise work, and copies of channels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kernel_checks.harness import Images, to_codes

from graphpress.backends.tvm.codegen.operators import FUNCTIONS
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import ApplyFunction, Destination, Divide

IMAGES, CHANNELS, SIZE, ZERO = 2, 37, (5, 21), 7


def sigmoid(x: np.ndarray) -> np.ndarray:
    """In float64."""
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    """In float64."""
    return np.logaddexp(0, x)


def below_zero(x: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Another function where numbers are negative."""
    return np.where(x < 0, below, x)


EXPECTED = {
    "identity": np.asarray,
    "is_inf": np.isinf,
    "is_nan": np.isnan,
    "is_nonzero": lambda x: x != 0,
    "not": lambda x: x == 0,
    "abs": np.abs,
    "ceil": np.ceil,
    "celu": lambda x: below_zero(x, np.expm1(x)),
    "cos": np.cos,
    "elu": lambda x: below_zero(x, np.expm1(x)),
    "erf": np.vectorize(math.erf),
    "exp": np.exp,
    "floor": np.floor,
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "leaky_relu": lambda x: below_zero(x, 0.01 * x),
    "log": np.log,
    "mish": lambda x: x * np.tanh(softplus(x)),
    "neg": np.negative,
    "reciprocal": np.reciprocal,
    "round": np.rint,
    "selu": lambda x: 1.0507010 * below_zero(x, 1.6732632 * np.expm1(x)),
    "shrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "sigmoid": sigmoid,
    "sign": np.sign,
    "sin": np.sin,
    "softplus": softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "sqrt": np.sqrt,
    "square": np.square,
    "swish": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
    "thresholded_relu": lambda x: np.where(x > 1, x, 0),
}
PARAMETERS = {
    ("celu", (0.5,)): lambda x: below_zero(x, 0.5 * np.expm1(x / 0.5)),
    ("elu", (0.5,)): lambda x: below_zero(x, 0.5 * np.expm1(x)),
    ("hard_sigmoid", (0.25, 0.4)): lambda x: np.clip(0.25 * x + 0.4, 0, 1),
    ("leaky_relu", (0.2,)): lambda x: below_zero(x, 0.2 * x),
    ("selu", (2.0, 3.0)): lambda x: 3 * below_zero(x, 2 * np.expm1(x)),
    ("shrink", (0.25, 1.5)): lambda x: np.where(np.abs(x) > 1.5, x - 0.25 * np.sign(x), 0),
    ("swish", (1.7,)): lambda x: x * sigmoid(1.7 * x),
    ("thresholded_relu", (2.0,)): lambda x: np.where(x > 2, x, 0),
}

RELATIVE = ("exp", "sigmoid")
"""Those that stay right in all digits far below zero, where ONNX Runtime's own sigmoid is off by 1e-7."""


def plane(isa, dtype="float32", channels=CHANNELS, halo=None) -> Plane:
    """Channels that leave a rest, and a halo."""
    return Plane(channels, *SIZE, whole_vectors(channels, isa.lanes), halo or Halo(1, 2, 0, 1), dtype)


def test_every_function_has_an_expectation():
    assert EXPECTED.keys() == FUNCTIONS.keys()


@pytest.mark.floats
def test_functions_of_one_number(isa, compiled):
    channels = isa.lanes + 1
    source, result = plane(isa, channels=channels), plane(isa, channels=channels, halo=Halo(0, 1, 0, 0))
    cases = {**{(name, ()): expected for name, expected in EXPECTED.items()}, **PARAMETERS}
    kernels = {case: Map(source, Destination(result), channels, (ApplyFunction(*case),)) for case in cases}
    data = Images.random(source, IMAGES, np.random.default_rng(0))
    data.values[:] *= 4
    data.values[0, 0, :, 0] = np.linspace(-80, 80, SIZE[1])
    data.values[0, 1, :, 0] = np.linspace(-1e-3, 1e-3, SIZE[1])
    library = compiled(list(kernels.values()))
    for case, kernel in kernels.items():
        memory = library.run(kernel, IMAGES, Images.filled(result, IMAGES, -5).memory, source=data.memory)
        with np.errstate(all="ignore"):
            expected = cases[case](data.numbers())
        values = Images(result, memory).values
        smallest = 1e-36 if case[0] in RELATIVE else 1e-6
        np.testing.assert_allclose(values, expected, rtol=2e-6, atol=smallest, err_msg=str(case))


@pytest.mark.floats
def test_logarithms_at_the_ends_of_floats(isa, compiled):
    numbers = np.array([0, -1, np.inf, np.nan, 1e-40, 1e-38, 3e38, 1, 0.70710678, 0.9999999], np.float32)
    flat = Plane(len(numbers), 1, 1, 16)
    kernel = Map(flat, Destination(flat), len(numbers), (ApplyFunction("log"),))
    memory = np.pad(numbers, (0, 6))
    with np.errstate(all="ignore"):
        expected = np.log(numbers.astype(np.float64))
    result = compiled([kernel]).run(kernel, 1, np.zeros(16), source=memory)[: len(numbers)]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


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
