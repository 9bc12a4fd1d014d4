"""Rows and pixels at other places, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.harness import Images, to_codes

from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.resample import TABLES, WEIGHTS, Resample
from graphpress.backends.tvm.kernels.stages import Destination

IMAGES, CHANNELS, ZERO = 2, 37, 5
SIZE, LARGER = (4, 5), (7, 3)


@pytest.mark.parametrize("taps", [(1, 1), (2, 2), (1, 4)], ids=str)
@pytest.mark.parametrize("codes", [False, True])
def test_pixels_are_weighted_sums(taps, codes, isa, compiled):
    rng, dtype, zero = np.random.default_rng(0), isa.dot.activations if codes else "float32", ZERO if codes else 0
    stride = whole_vectors(CHANNELS, isa.lanes)
    source = Plane(CHANNELS, *SIZE, stride, Halo(1, 0, 0, 1), dtype)
    result = Plane(CHANNELS, *LARGER, stride, Halo(0, 1, 2, 0), dtype)
    kernel = Resample(source, Destination(result, zero), taps, (), zero)
    places = [rng.integers(0, size, (count, tap)) for size, count, tap in zip(SIZE, LARGER, taps, strict=True)]
    weights = [rng.random(place.shape).astype(np.float32) / place.shape[1] for place in places]
    if taps == (1, 1):
        weights = [np.ones_like(weight) for weight in weights]
    data = Images.random(source, IMAGES, rng, zero)
    tables = dict(zip(TABLES, places, strict=True))
    if kernel.weighted:
        tables |= dict(zip(WEIGHTS, weights, strict=True))
    memory = compiled([kernel]).run(
        kernel, IMAGES, Images.filled(result, IMAGES, 0).memory, source=data.memory, **tables
    )
    numbers = data.numbers(zero)[:, places[0]][:, :, :, places[1]]  # images, rows, taps, pixels, taps, channels
    expected = np.einsum("nyixjc,yi,xj->nyxc", numbers, *weights)
    if codes:
        differences = Images(result, memory).values - to_codes(expected, zero, dtype)
        assert np.count_nonzero(differences) <= differences.size / 100  # sums at the middle between two codes
        assert np.abs(differences).max() <= 1
    else:
        np.testing.assert_allclose(Images(result, memory).values, expected, rtol=1e-5, atol=1e-6)
