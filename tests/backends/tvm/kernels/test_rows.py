"""Softmax and normalizations over channels of every number, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.harness import Images

from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.rows import RowNormalization, Softmax
from graphpress.backends.tvm.kernels.stages import Destination

IMAGES, EPSILON = 2, 1e-5

pytestmark = pytest.mark.floats


@pytest.fixture(params=[1, 16, 37, 100])
def data(request, isa) -> Images:
    """Values with a large mean."""
    plane = Plane(request.param, 3, 5, whole_vectors(request.param, isa.lanes), Halo(1, 0, 0, 2))
    images = Images.random(plane, IMAGES, np.random.default_rng(0))
    images.values[:] = images.values * 3 + 100
    return images


def run(compiled, kernel, data, **operands) -> np.ndarray:
    """The values of the result."""
    result = kernel.store.plane
    empty = Images.filled(result, IMAGES, 0).memory
    return Images(result, compiled([kernel]).run(kernel, IMAGES, empty, source=data.memory, **operands)).values


@pytest.mark.parametrize("logarithm", [False, True])
def test_softmax(data, logarithm, compiled):
    result = run(compiled, Softmax(data.plane, Destination(data.plane), logarithm=logarithm), data)
    numbers = data.numbers()
    expected = np.exp(numbers - numbers.max(-1, keepdims=True))
    expected = expected / expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(result, np.log(expected) if logarithm else expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("centered", "scaled", "shifted"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_normalizations(data, centered, scaled, shifted, compiled):
    rng, channels = np.random.default_rng(1), data.plane.channels
    scale, bias = rng.standard_normal(channels), rng.standard_normal(channels)
    kernel = RowNormalization(data.plane, Destination(data.plane), EPSILON, centered, scaled, shifted)
    result = run(compiled, kernel, data, scale=scale, bias=bias)
    numbers = data.numbers()
    numbers = numbers - numbers.mean(-1, keepdims=True) if centered else numbers
    expected = numbers / np.sqrt((numbers**2).mean(-1, keepdims=True) + EPSILON)
    expected = expected * (scale if scaled else 1) + (bias if shifted else 0)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=2e-4)
