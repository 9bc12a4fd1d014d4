"""Products of floats with integer weights against numpy: bits, blocks, rows and outputs that fill no tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from kernel_checks.harness import Images

from graphpress.backends.tvm.codegen.isa import ISAS, Isa
from graphpress.backends.tvm.codegen.objects import assembly
from graphpress.backends.tvm.kernels.kernel import function
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Clip, Destination
from graphpress.backends.tvm.kernels.weight_only import WeightOnlyProduct, packed_by_block, packed_codes

IMAGES = 2
CASES = [
    # bits, inputs, block, outputs, lines, rows of a line, rows and vectors of a tile, zero-points
    (4, 64, 32, 100, 1, 1, 1, 4, 0),
    (4, 48, 16, 33, 2, 5, 2, 2, 1),
    (8, 37, 37, 70, 1, 3, 2, 3, 0),
    (8, 24, 12, 16, 3, 1, 1, 1, 1),
]
CODED = [
    (4, 64, 32, 100, 1, 1, 1, 4, 0),
    (4, 96, 16, 33, 2, 5, 2, 2, 1),
    (8, 64, 64, 70, 1, 3, 2, 3, 0),
    (8, 96, 32, 16, 3, 1, 1, 1, 1),
]


def product_of(isa: Isa, case: tuple[int, ...], dtype: str = "float32") -> WeightOnlyProduct:
    """The kernel of a case."""
    bits, inputs, block, outputs, lines, width, rows, vectors, zeros = case
    source = Plane(inputs, lines, width, whole_vectors(inputs, isa.lanes), Halo(1, 0, 0, 1), dtype)
    result = Plane(outputs, lines, width, whole_vectors(outputs, isa.lanes))
    return WeightOnlyProduct(source, Destination(result), bits, block, (Clip(-30.0, 30.0),), rows, vectors, bool(zeros))


@dataclass
class Weights:
    """Random weights of a case: codes, scales and zero-points of blocks, biases."""

    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray
    bias: np.ndarray

    @classmethod
    def random(cls, case: tuple[int, ...], rng: np.random.Generator) -> Weights:
        """With the extreme codes among them."""
        bits, inputs, block, outputs, *_, zeros = case
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
        codes = rng.integers(low, high + 1, (inputs, outputs)).astype(np.int8)
        codes[:4], codes[4:8] = low, high
        scales = rng.random((inputs // block, outputs)).astype(np.float32) / 4
        places = rng.integers(low, high + 1, scales.shape) if zeros else np.zeros(scales.shape)
        return cls(codes, scales, places.astype(np.int8), rng.standard_normal(outputs).astype(np.float32))

    @property
    def numbers(self) -> np.ndarray:
        """What the codes stand for."""
        times = len(self.codes) // len(self.scales)
        scales, zeros = (np.repeat(array.astype(np.float64), times, axis=0) for array in (self.scales, self.zeros))
        return (self.codes - zeros) * scales

    def operands(self, product: WeightOnlyProduct, isa: Isa) -> dict[str, np.ndarray]:
        """As the kernel reads them."""
        return {
            "weights": packed_codes(product, self.codes, isa),
            "scales_of_blocks": packed_by_block(product, self.scales, isa),
            "zeros_of_blocks": packed_by_block(product, self.zeros, isa),
            "bias": np.pad(self.bias, (0, -len(self.bias) % isa.lanes)),
        }


def test_products_of_floats_equal_numpy(isa, compiled):
    rng = np.random.default_rng(0)
    products = [product_of(isa, case) for case in CASES]
    kernels = compiled(products)
    for product, case in zip(products, CASES, strict=True):
        weights = Weights.random(case, rng)
        source, result = Images.random(product.source, IMAGES, rng), Images.filled(product.store.plane, IMAGES, 0)
        operands = {"source": source.memory, **weights.operands(product, isa)}
        result.memory = kernels.run(product, IMAGES, result.memory, **operands)
        expected = source.numbers() @ weights.numbers + weights.bias
        np.testing.assert_allclose(result.values, np.clip(expected, -30, 30), rtol=1e-5, atol=2e-4)


def test_products_of_codes_equal_numpy(isa, compiled):
    rng = np.random.default_rng(0)
    cases = [(case, product_of(isa, case, "int8")) for case in CODED]
    cases = [(case, product) for case, product in cases if product.is_exact(isa)]
    assert {case[0] for case, _ in cases} == ({4, 8} if isa.dot.largest_weight == 128 else {4})
    kernels = compiled([product for _, product in cases])
    for case, product in cases:
        weights = Weights.random(case, rng)
        source, result = Images.random(product.source, IMAGES, rng), Images.filled(product.store.plane, IMAGES, 0)
        source.memory[source.memory == -128] = 127
        blocked = source.values.astype(np.float64).reshape(*source.values.shape[:-1], product.blocks, product.block)
        scales = rng.random(blocked.shape[:-1]).astype(np.float32) / 127
        operands = {
            "source": source.memory,
            "source_scales": scales,
            "source_sums": blocked.sum(axis=-1),
            **weights.operands(product, isa),
        }
        result.memory = kernels.run(product, IMAGES, result.memory, **operands)
        numbers = (blocked * scales[..., None]).reshape(source.values.shape)
        expected = numbers @ weights.numbers + weights.bias
        np.testing.assert_allclose(result.values, np.clip(expected, -30, 30), rtol=1e-5, atol=2e-4)


def test_a_table_turns_codes_into_floats_where_the_processor_looks_up_sixteen():
    text = {name: assembly([function(product_of(ISAS[name], CASES[0]), ISAS[name])], ISAS[name]) for name in ISAS}
    assert {name for name, code in text.items() if "vpermps" in code} >= {"avx512", "avx512-vnni"}
    assert "vcvtdq2ps" not in text["avx512-vnni"]
    assert "scvtf" in text["neon"]
