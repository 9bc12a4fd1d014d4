"""Products of floats with integer weights against numpy: bits, blocks, rows and outputs that fill no tile."""

from __future__ import annotations

import numpy as np
from kernel_checks.harness import Images

from graphpress.backends.tvm.codegen.isa import ISAS, Isa
from graphpress.backends.tvm.codegen.objects import assembly
from graphpress.backends.tvm.kernels.kernel import function
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Clip, Destination
from graphpress.backends.tvm.kernels.weight_only import WeightOnlyProduct, packed_codes, packed_scales

IMAGES = 2
CASES = [
    # bits, inputs, block, outputs, lines, rows of a line, rows and vectors of a tile
    (4, 64, 32, 100, 1, 1, 1, 4),
    (4, 48, 16, 33, 2, 5, 2, 2),
    (8, 37, 37, 70, 1, 3, 2, 3),
    (8, 24, 12, 16, 3, 1, 1, 1),
]


def product_of(isa: Isa, case: tuple[int, ...]) -> WeightOnlyProduct:
    """The kernel of a case."""
    bits, inputs, block, outputs, lines, width, rows, vectors = case
    source = Plane(inputs, lines, width, whole_vectors(inputs, isa.lanes), Halo(1, 0, 0, 1))
    result = Plane(outputs, lines, width, whole_vectors(outputs, isa.lanes))
    return WeightOnlyProduct(source, Destination(result), bits, block, (Clip(-30.0, 30.0),), rows, vectors)


def test_products_equal_numpy(isa, compiled):
    rng = np.random.default_rng(0)
    products = [product_of(isa, case) for case in CASES]
    kernels = compiled(products)
    for product, (bits, inputs, block, outputs, *_) in zip(products, CASES, strict=True):
        codes = rng.integers(-(1 << bits - 1), 1 << bits - 1, (inputs, outputs)).astype(np.int8)
        scales = rng.random((inputs // block, outputs)).astype(np.float32) / 4
        bias = rng.standard_normal(outputs).astype(np.float32)
        source, result = Images.random(product.source, IMAGES, rng), Images.filled(product.store.plane, IMAGES, 0)
        result.memory = kernels.run(
            product,
            IMAGES,
            result.memory,
            source=source.memory,
            weights=packed_codes(product, codes, isa),
            scales_of_blocks=packed_scales(product, scales, isa),
            bias=np.pad(bias, (0, -outputs % isa.lanes)),
        )
        expected = source.numbers() @ (codes * np.repeat(scales.astype(np.float64), block, axis=0)) + bias
        np.testing.assert_allclose(result.values, np.clip(expected, -30, 30), rtol=1e-5, atol=2e-4)


def test_a_table_turns_codes_into_floats_where_the_processor_looks_up_sixteen():
    text = {name: assembly([function(product_of(ISAS[name], CASES[0]), ISAS[name])], ISAS[name]) for name in ISAS}
    assert {name for name, code in text.items() if "vpermps" in code} >= {"avx512", "avx512-vnni"}
    assert "vcvtdq2ps" not in text["avx512-vnni"]
    assert "scvtf" in text["neon"]
