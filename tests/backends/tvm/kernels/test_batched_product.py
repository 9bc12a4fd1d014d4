"""Products of two activations of any leading axes, against numpy in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kernel_checks.harness import Images
from kernel_checks.views import dense_view, permuted_view

from graphpress.backends.tvm.kernels.batched_product import BatchedProduct
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Clip, Destination

pytestmark = pytest.mark.floats

IMAGES = 2
SHAPES = {
    "few rows": ((1, 3), 2, 5, 7),
    "whole tiles": ((2,), 12, 64, 64),
    "rests everywhere": ((2, 2), 13, 19, 37),
}
"""Leading axes, rows, depth, columns."""


def product_of(isa, left, right, leading, sizes) -> BatchedProduct:
    """A product into whole vectors."""
    rows, depth, columns = sizes
    plane = Plane(columns, leading[-1], rows, whole_vectors(columns, isa.lanes))
    return BatchedProduct(left, right, Destination(plane), leading, depth, (Clip(-1.0, None),))


@pytest.mark.parametrize("name", SHAPES)
def test_products(name, isa, compiled):
    leading, rows, depth, columns = SHAPES[name]
    rng = np.random.default_rng(0)
    left = rng.standard_normal((IMAGES, *leading, rows, depth)).astype(np.float32)
    right = rng.standard_normal((IMAGES, *leading, depth, columns)).astype(np.float32)
    kernel = product_of(isa, dense_view(left), dense_view(right), leading, (rows, depth, columns))
    result = Images.filled(kernel.store.plane, IMAGES * math.prod(leading[:-1]), 0)
    result.memory = compiled([kernel]).run(kernel, IMAGES, result.memory, left=left, right=right)
    expected = np.maximum(left.astype(np.float64) @ right, -1).reshape(result.values.shape)
    np.testing.assert_allclose(result.values, expected, rtol=1e-5, atol=1e-5)


def test_matrices_are_spread_and_read_transposed(isa, compiled):
    """The left one lies column by column; the right one is the same for all of the first leading axis."""
    leading, (rows, depth, columns) = (3, 2), (7, 20, 16)
    rng = np.random.default_rng(0)
    left = rng.standard_normal((IMAGES, *leading, depth, rows)).astype(np.float32)
    right = rng.standard_normal((IMAGES, 1, 2, depth, columns)).astype(np.float32)
    views = permuted_view(left, (0, 1, 3, 2)), dense_view(right, spread=(0,))
    kernel = product_of(isa, *views, leading, (rows, depth, columns))
    result = Images.filled(kernel.store.plane, IMAGES * leading[0], 0)
    result.memory = compiled([kernel]).run(kernel, IMAGES, result.memory, left=left, right=right)
    expected = np.maximum(left.swapaxes(-1, -2).astype(np.float64) @ right, -1).reshape(result.values.shape)
    np.testing.assert_allclose(result.values, expected, rtol=1e-5, atol=1e-5)
