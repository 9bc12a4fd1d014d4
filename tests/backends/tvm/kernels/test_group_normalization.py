"""Normalization over pixels, of channels and of groups of them, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.harness import Images

from graphpress.backends.tvm.kernels.group_normalization import GroupNormalizationKernel
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Clip, Destination

pytestmark = pytest.mark.floats

IMAGES, EPSILON = 2, 1e-3


@pytest.mark.parametrize(("channels", "group", "rows"), [(37, 1, 3), (42, 21, 3), (32, 32, 1), (7, 1, 1)])
def test_channels_and_groups_of_them(channels, group, rows, isa, compiled):
    rng = np.random.default_rng(0)
    stride = whole_vectors(channels, isa.lanes)
    source, result = Plane(channels, 3, 5, stride, Halo(1, 0, 0, 2)), Plane(channels, 3, 5, stride)
    data = Images.random(source, IMAGES, rng)
    data.values[:] = data.values * 3 + 100
    scale, bias = rng.standard_normal(channels), rng.standard_normal(channels)
    kernel = GroupNormalizationKernel(source, Destination(result), group, rows, EPSILON, (Clip(-1.0, None),))
    empty = Images.filled(result, IMAGES, 0).memory
    memory = compiled([kernel]).run(kernel, IMAGES, empty, source=data.memory, scale=scale, bias=bias)
    numbers = data.numbers().reshape(IMAGES, 3 // rows, rows, 5, channels // group, group)
    numbers = numbers - numbers.mean((2, 3, 5), keepdims=True)
    numbers = numbers / np.sqrt((numbers**2).mean((2, 3, 5), keepdims=True) + EPSILON)
    expected = np.maximum(numbers.reshape(IMAGES, 3, 5, channels) * scale + bias, -1)
    np.testing.assert_allclose(Images(result, memory).values, expected, rtol=1e-4, atol=2e-4)
