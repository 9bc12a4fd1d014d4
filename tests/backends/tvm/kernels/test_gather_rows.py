"""Rows of a table by number: from either end, and never from beyond the table."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.harness import Images

from graphpress.backends.tvm.kernels.gather_rows import GatherRows
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Clip, Destination

pytestmark = pytest.mark.floats

IMAGES, ROWS, CHANNELS = 2, 11, 21


@pytest.mark.parametrize("index", ["int64", "int32"])
@pytest.mark.parametrize(("dtype", "zero"), [("float32", 0), ("int8", -3)])
def test_rows(index, dtype, zero, isa, compiled):
    rng = np.random.default_rng(0)
    table = rng.integers(-128, 128, (ROWS, CHANNELS)).astype(dtype)
    numbers = np.array([[0, 10, 5, -1, -11, 3], [7, 7, 11, -12, 2**31 - 1, -(2**31)]])
    plane = Plane(CHANNELS, 2, 3, whole_vectors(CHANNELS, isa.lanes))
    kernel = GatherRows(ROWS, Destination(plane), dtype, index, zero, (Clip(0.0, None),))
    empty = Images.filled(plane, IMAGES, 0).memory
    memory = compiled([kernel]).run(kernel, IMAGES, empty, table=table, indices=numbers)
    rows = np.clip(np.where(numbers < 0, numbers + ROWS, numbers), 0, ROWS - 1)
    expected = np.maximum(table.astype(np.float64)[rows] - zero, 0).reshape(IMAGES, 2, 3, CHANNELS)
    np.testing.assert_array_equal(Images(plane, memory).values, expected)


@pytest.mark.parametrize("block", [CHANNELS, 7])
def test_rows_of_codes_have_scales(block, isa, compiled):
    rng = np.random.default_rng(0)
    table = rng.integers(-128, 128, (ROWS, CHANNELS)).astype(np.int8)
    scales = rng.random((ROWS, CHANNELS // block)).astype(np.float32)
    numbers = np.array([[0, 10, 5], [7, 3, 7]])
    plane = Plane(CHANNELS, 1, 3, whole_vectors(CHANNELS, isa.lanes))
    kernel = GatherRows(ROWS, Destination(plane), "int8", block=block)
    empty = Images.filled(plane, IMAGES, 0).memory
    operands = {"table": table, "scales_of_rows": scales, "indices": numbers}
    memory = compiled([kernel]).run(kernel, IMAGES, empty, **operands)
    expected = (table * np.repeat(scales, block, axis=1))[numbers][:, None]
    np.testing.assert_allclose(Images(plane, memory).values, expected, rtol=1e-6)
