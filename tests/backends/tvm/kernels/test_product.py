"""Convolutions and matrix products of all shapes, on all tiles, against numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from kernel_checks.harness import Images, to_codes
from kernel_checks.reference import convolution

from graphpress.backends.tvm.codegen.isa import ISAS, Isa
from graphpress.backends.tvm.codegen.objects import write_object
from graphpress.backends.tvm.kernels.kernel import function
from graphpress.backends.tvm.kernels.packing import merged_groups, packed_weights, per_channel
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.stages import Add, Clip, Destination, Scale
from graphpress.backends.tvm.kernels.window import TapWindow

IMAGES = 2
OTHER_RATIO, OTHER_ZERO = 0.5, 3


@dataclass
class Case:
    """A product and its data."""

    product: Product
    groups: int
    zero_point: int
    rng: np.random.Generator

    @property
    def other(self) -> Plane | None:
        """What is added."""
        return next((stage.plane for stage in self.product.stages if isinstance(stage, Add)), None)


def random_case(isa: Isa, seed: int) -> Case:
    """Shapes, strides, dilations, groups, halos, types, stages and tiles at random; every rest of a tile comes up."""
    rng = np.random.default_rng(seed)
    integer = bool(rng.integers(2))
    groups, window, source = _source(rng, isa, integer)
    codes = integer and bool(rng.integers(3))
    outputs = int(rng.integers(1, 130)) if groups == 1 else int(rng.integers(1, 5)) * isa.lanes * groups
    size = [
        (length + 2 * pad - (taps - 1) * step - 1) // stride + 1
        for length, pad, taps, step, stride in zip(
            (source.height, source.width), window.pads, window.taps, window.dilations, window.strides, strict=True
        )
    ]
    stride = whole_vectors(outputs, isa.lanes)
    result = Plane(outputs, size[0], size[1], stride, _halo(rng), isa.dot.activations if codes else "float32")
    other = replace(result, halo=_halo(rng), dtype=isa.dot.activations if integer else "float32")
    ratio, zero = (OTHER_RATIO, OTHER_ZERO) if integer else (1.0, 0)
    add = Add(other, other_ratio=ratio, zero_point=zero)
    stages = [*([Scale()] if integer else []), *([add] if rng.integers(2) else []), Clip(0.0, 6.0)]
    zeros = rng.integers(*isa.code_bounds, 2)
    vectors = int(rng.integers(1, 5))
    tile = Tile(*map(int, (rng.integers(1, 4), rng.integers(1, 8))), vectors, int(rng.integers(1, 5)))
    merged = merged_groups(groups, outputs, isa.lanes) if groups > 1 else 1
    store = Destination(result, int(zeros[0]) if codes else 0)
    product = Product(source, store, window, tile, merged, tuple(stages))
    order = [parts for parts in range(1, product.row_tiles + 1) if product.row_tiles % parts == 0]
    tile = replace(tile, row_groups=int(rng.choice(order)), prefetch=bool(rng.integers(2)))
    return Case(replace(product, tile=tile), groups, int(zeros[1]) if integer else 0, rng)


def _source(rng: np.random.Generator, isa: Isa, integer: bool) -> tuple[int, TapWindow, Plane]:
    groups = int(rng.choice([1, 1, 2, 3]))
    channels = int(rng.integers(1, 40)) * groups
    pairs = [tuple(map(int, rng.integers(1, end, 2))) for end in (4, 3, 3)]
    pads = (int(rng.integers(pairs[0][0] + 1)), int(rng.integers(pairs[0][1] + 1)))
    window = TapWindow(pairs[0], pairs[1], pairs[2], pads)
    stride = whole_vectors(channels, isa.lanes) if integer or rng.integers(2) else channels
    if integer and channels <= 4 and groups == 1:
        stride = 4  # as the first layer of a net reads its image
    halo = Halo(pads[0] + int(rng.integers(2)), pads[1], pads[0], pads[1] + int(rng.integers(2)))
    height, width = map(int, rng.integers(6, 20, 2))
    return groups, window, Plane(channels, height, width, stride, halo, isa.dot.activations if integer else "float32")


def _halo(rng: np.random.Generator) -> Halo:
    return Halo(*map(int, rng.integers(0, 2, 4)))


def check(case: Case, kernels) -> None:
    """Compare with numpy: codes bit for bit, floats within rounding."""
    product, rng, isa = case.product, case.rng, kernels.isa
    source = Images.random(product.source, IMAGES, rng, case.zero_point)
    plane, integer = product.store.plane, product.integer
    shape = (plane.channels, product.source.channels // case.groups, *product.window.taps)
    largest = isa.dot.largest_weight
    codes = rng.integers(-largest, min(largest, 127) + 1, shape).astype(np.int8)
    kernel = codes if integer else rng.standard_normal(shape).astype(np.float32)
    bias = rng.integers(-999, 999, plane.channels) if integer else rng.standard_normal(plane.channels)
    scales = (rng.random(plane.channels) * 2e-3).astype(np.float32)
    numbers = source.numbers(case.zero_point)
    expected = convolution(numbers, kernel, case.groups, product.window, plane) + bias.astype(np.float32)
    zeros = case.zero_point * kernel.astype(np.int64).sum((1, 2, 3)) if integer else 0
    operands = {
        "source": source.memory,
        "weights": packed_weights(product, _joined(case, kernel), isa),
        "bias": per_channel(product, (bias - zeros).astype(np.int32 if integer else np.float32), isa),
        "scales": per_channel(product, scales, isa),
    }
    if integer:
        expected = expected.astype(np.float32) * scales
    if case.other is not None:
        other = Images.random(case.other, IMAGES, rng, OTHER_ZERO)
        operands["residual"] = other.memory
        ratio = np.float32(OTHER_RATIO if integer else 1)
        offset = np.float32(-OTHER_ZERO * OTHER_RATIO if integer else 0)
        expected = expected + (other.values.astype(np.float32) * ratio + offset)
    expected = np.clip(expected, 0, 6)
    result = Images.filled(plane, IMAGES, 0)
    result.memory = kernels.run(product, IMAGES, result.memory, **operands)
    if plane.dtype == "float32":
        np.testing.assert_allclose(result.values, expected, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(result.values, to_codes(expected, product.store.zero_point, plane.dtype))


def _joined(case: Case, kernel: np.ndarray) -> np.ndarray:
    """The weights of groups that were merged, zeros between."""
    joined = case.groups // case.product.groups
    filled = np.zeros((kernel.shape[0], joined, *kernel.shape[1:]), kernel.dtype)
    place = np.arange(kernel.shape[0]) // (kernel.shape[0] // case.groups) % joined
    filled[np.arange(kernel.shape[0]), place] = kernel
    return filled.reshape(kernel.shape[0], -1, *kernel.shape[2:])


def test_random_products_equal_numpy(isa, compiled):
    cases = [random_case(isa, seed) for seed in range(10)]
    kernels = compiled([case.product for case in cases])
    for case in cases:
        check(case, kernels)


@pytest.mark.parametrize("name", ["neon", "neon-dotprod", "neon-i8mm"])
def test_kernels_of_other_processors_compile(name, tmp_path):
    isa = ISAS[name]
    cases = [random_case(isa, seed) for seed in range(1)]
    write_object([function(case.product, isa) for case in cases], isa, tmp_path / "kernels.o")
    assert (tmp_path / "kernels.o").read_bytes()[18] == 183  # EM_AARCH64


def test_groups_merge_into_whole_vectors():
    assert merged_groups(32, 128, 16) == 8
    assert merged_groups(2, 32, 16) == 2
    assert merged_groups(3, 24, 16) == 1


def tiled(name: str, *sides: int, codes: bool = False) -> bool:
    """Whether a tile fits an instruction set."""
    plane = Plane(64, 16, 16, 64, dtype=ISAS[name].dot.activations if codes else "float32")
    return Product(plane, Destination(plane), TapWindow(), Tile(*sides)).fits(ISAS[name])


def test_a_tile_fits_the_registers_that_there_are():
    assert tiled("avx512", 1, 14, 2)
    assert not tiled("avx512", 1, 7, 4)
    assert not tiled("avx2", 1, 14, 2)
    assert tiled("neon", 2, 3, 4)
    assert not tiled("neon", 2, 3, 4, codes=True)  # two sums for each channel
    assert tiled("neon-dotprod", 1, 5, 4, codes=True)
    assert not tiled("neon-dotprod", 2, 3, 4, codes=True)  # activations of four steps for each pixel
