"""Codes through a table at the end of kernels: all codes, vectors of each size, on each instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.harness import Images, to_codes
from kernel_checks.reference import convolution

from graphpress.backends.tvm.kernels.depthwise import Depthwise, can_zip, packed_taps, per_lane
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.packing import packed_weights, per_channel
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.stages import Destination, LookUp, Scale
from graphpress.backends.tvm.kernels.window import TapWindow

ZERO = 9


@pytest.fixture
def table() -> np.ndarray:
    """A permutation of all bytes."""
    return np.random.default_rng(1).permutation(256).astype(np.uint8)


def looked_up(codes: np.ndarray, table: np.ndarray, dtype: str) -> np.ndarray:
    """The entry of each code, in the type of the codes."""
    return table[codes.astype(np.int64) & 255].view(dtype)


def test_every_code(isa, compiled, table):
    dtype = isa.dot.activations
    plane = Plane(16 * isa.lanes, 1, 256 // isa.lanes, 16 * isa.lanes, dtype=dtype)
    kernel = Map(plane, Destination(plane, ZERO, looks_up=True), plane.channels, (LookUp(),), ZERO)
    codes = np.resize(np.arange(256).astype(np.uint8).view(dtype), (1, 1, plane.width, plane.channels))
    result = compiled([kernel]).run(kernel, 1, Images.filled(plane, 1, 0).memory, source=codes, table=table)
    np.testing.assert_array_equal(result, looked_up(codes, table, dtype))


@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
def test_products(isa, compiled, table, vectors):
    dtype, channels = isa.dot.activations, 6 * isa.lanes - 3
    source = Plane(16, 2, 7, 16, dtype=dtype)
    result = Plane(channels, 2, 7, whole_vectors(channels, isa.lanes), dtype=dtype)
    store = Destination(result, ZERO, looks_up=True)
    product = Product(source, store, TapWindow(), Tile(1, 3, vectors), stages=(Scale(), LookUp()))
    rng = np.random.default_rng(vectors)
    weights = rng.integers(-isa.dot.largest_weight, min(isa.dot.largest_weight, 127) + 1, (channels, 16, 1, 1))
    data, scales = Images.random(source, 1, rng), (rng.random(channels) * 1e-2).astype(np.float32)
    memory = compiled([product]).run(
        product,
        1,
        Images.filled(result, 1, 0).memory,
        source=data.memory,
        weights=packed_weights(product, weights.astype(np.int8), isa),
        bias=per_channel(product, np.zeros(channels, np.int32), isa),
        scales=per_channel(product, scales, isa),
        table=table,
    )
    sums = convolution(data.numbers(), weights, 1, TapWindow(), result).astype(np.float32)
    codes = to_codes(sums * scales, ZERO, dtype)
    np.testing.assert_array_equal(Images(result, memory).values, looked_up(codes, table, dtype))


def test_depthwise_convolutions(isa, compiled, table):
    dtype, channels, window = isa.dot.activations, 5 * isa.lanes, TapWindow((3, 3))
    source = Plane(channels, 5, 9, channels, dtype=dtype)
    result = Plane(channels, 3, 7, channels, dtype=dtype)
    store = Destination(result, ZERO, looks_up=True)
    ways = [False, *([True] if can_zip(store, isa) else [])]
    variants = [Depthwise(source, store, window, (Scale(), LookUp()), 3, True, zipped) for zipped in ways]
    rng = np.random.default_rng(0)
    weights = rng.integers(-isa.dot.largest_weight, min(isa.dot.largest_weight, 127) + 1, (channels, 1, 3, 3))
    data, scales = Images.random(source, 1, rng), (rng.random(channels) * 1e-2).astype(np.float32)
    sums = convolution(data.numbers(), weights, channels, window, result).astype(np.float32)
    expected = looked_up(to_codes(sums * scales, ZERO, dtype), table, dtype)
    kernels = compiled(variants)
    for variant in variants:
        memory = kernels.run(
            variant,
            1,
            Images.filled(result, 1, 0).memory,
            source=data.memory,
            weights=packed_taps(variant, weights, isa.lanes),
            bias=per_lane(variant, np.zeros(channels, np.int32), isa.lanes),
            scales=per_lane(variant, scales, isa.lanes),
            table=table,
        )
        np.testing.assert_array_equal(Images(result, memory).values, expected)
