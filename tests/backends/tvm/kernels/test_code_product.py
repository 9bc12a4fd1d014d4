"""Products of two activations in codes, against integers: exact on all instruction sets that have exact products."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from kernel_checks.harness import Images
from kernel_checks.views import dense_view, permuted_view

from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.kernels.code_packing import CodePacking
from graphpress.backends.tvm.kernels.code_product import CodeProduct
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Destination

IMAGES = 2
SHAPES = {
    "few": ((1, 3), 2, 5, 7, False),
    "whole groups": ((2,), 12, 64, 64, True),
    "rests everywhere": ((2, 2), 13, 19, 37, True),
}
"""Leading axes, rows, depth, columns, and whether the right factor lies column by column."""


@pytest.mark.parametrize("isa", [isa for isa in ISAS.values() if isa.dot.largest_weight >= 128], indirect=True,
                         ids=lambda isa: isa.name)  # fmt: skip
def test_sums_are_exact(isa, compiled):
    low, high = isa.code_bounds
    cases = [
        (shape, zeros) for shape in SHAPES.values() for zeros in ((low + 3, high - 7), (low, low + 128))
    ]  # the second packs to codes whose zero-point is none
    made = [_kernels(isa, shape, zeros) for shape, zeros in cases]
    library = compiled([kernel for pair in made for kernel in pair])
    rng = np.random.default_rng(0)
    for ((leading, rows, depth, columns, turned), zeros), (packing, product) in zip(cases, made, strict=True):
        left, right = (
            rng.integers(low, high + 1, (IMAGES, *leading, *sizes)).astype(isa.dot.activations)
            for sizes in ((rows, depth), (columns, depth) if turned else (depth, columns))
        )
        packed = np.zeros(IMAGES * packing.packed(isa.lanes).size, np.int8)
        packed = library.run(packing, IMAGES, packed, right=right)
        result = Images.filled(product.store.plane, IMAGES * math.prod(leading[:-1]), 0)
        result.memory = library.run(product, IMAGES, result.memory, left=left, right=packed)
        first, second = (codes.astype(np.int64) - zero for codes, zero in zip((left, right), zeros, strict=True))
        expected = first @ (second.swapaxes(-1, -2) if turned else second)
        np.testing.assert_array_equal(result.values, expected.reshape(result.values.shape))


def _kernels(isa, shape, zeros) -> tuple[CodePacking, CodeProduct]:
    leading, rows, depth, columns, turned = shape
    codes = isa.dot.activations
    left = np.empty((1, *leading, rows, depth), codes)
    right = np.empty((1, *leading, *((columns, depth) if turned else (depth, columns))), codes)
    axes = tuple(range(len(leading)))
    end = (len(leading) + 1, len(leading)) if turned else (len(leading), len(leading) + 1)
    second = replace(permuted_view(right, (*axes, *end)), dtype=codes, zero_point=zeros[1])
    packing = CodePacking(second, leading, depth, columns, zeros[0])
    plane = Plane(columns, leading[-1], rows, whole_vectors(columns, isa.lanes))
    first = replace(dense_view(left), dtype=codes, zero_point=zeros[0])
    packed = packing.packed(isa.lanes)
    return packing, CodeProduct(first, packed, Destination(plane), leading, depth, packing.packed_zero_point)
