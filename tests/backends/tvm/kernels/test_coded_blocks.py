"""Sums of rows that were rounded to eight bits, against numpy; ``test_packed_weights`` reads codes and scales, too."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.harness import Images

from graphpress.backends.tvm.kernels.coded_blocks import CodedBlocks
from graphpress.backends.tvm.kernels.plane import Halo, Plane

IMAGES = 2


@pytest.mark.parametrize("vectors", [1, 3])
def test_sums_of_codes_equal_numpy(isa, compiled, vectors):
    block = vectors * isa.lanes
    kernel = CodedBlocks(Plane(4 * block, 2, 3, 5 * block, Halo(1, 0, 0, 1)), block)
    source = Images.random(kernel.source, IMAGES, np.random.default_rng(0))
    source.values[0, 0, 0, :block] = 0
    source.values[0, 0, 1, 0] = -1e3
    blocked = source.values.reshape(-1, 4, block)
    scales = np.abs(blocked).max(axis=-1) * np.float32(1 / 127)
    codes = np.rint(blocked / np.where(scales, scales, 1)[..., None])
    kernels = compiled([kernel])
    arrays = {
        name: np.zeros(size, dtype)
        for name, size, dtype in (("codes", codes.size, "i1"), ("scales", scales.size, "f4"))
    }
    sums = kernels.run(kernel, IMAGES, np.zeros(scales.size, np.int32), source=source.memory, **arrays)
    np.testing.assert_allclose(sums, codes.sum(axis=-1).reshape(-1), atol=1)
