"""Pairs of elements turned by angles, against numpy in complex numbers."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.views import dense_view, permuted_view

from graphpress.backends.tvm.kernels.rotary import RotaryKernel

IMAGES, EXTENTS, TURNED = 2, (1, 3, 2, 45), 42

pytestmark = pytest.mark.floats


@pytest.mark.parametrize("interleaved", [False, True])
def test_pairs_are_complex_numbers_that_are_turned(interleaved, isa, compiled):
    rng = np.random.default_rng(0)
    source = rng.standard_normal((IMAGES, 1, 2, 3, 45)).astype(np.float32)  # heads before positions
    angles = rng.standard_normal((IMAGES, 1, 3, 1, TURNED // 2))
    waves = {"cosine": np.cos(angles).astype(np.float32), "sine": np.sin(angles).astype(np.float32)}
    result = np.zeros((IMAGES, *EXTENTS), np.float32)
    views = {name: dense_view(wave, spread=(2,)) for name, wave in waves.items()}
    moved = permuted_view(source, (0, 2, 1, 3))
    kernel = RotaryKernel(EXTENTS, TURNED, moved, dense_view(result), **views, interleaved=interleaved)
    computed = compiled([kernel]).run(kernel, IMAGES, result, source=source, **waves)
    by_position = source.swapaxes(2, 3).astype(np.float64)
    pairs = by_position[..., :TURNED].reshape(*result.shape[:-1], *((-1, 2) if interleaved else (2, -1)))
    pairs = pairs if interleaved else pairs.swapaxes(-1, -2)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles)
    parts = np.stack([turned.real, turned.imag], -1 if interleaved else -2).reshape(*result.shape[:-1], TURNED)
    np.testing.assert_allclose(computed, np.concatenate([parts, by_position[..., TURNED:]], -1), rtol=1e-5, atol=1e-6)
