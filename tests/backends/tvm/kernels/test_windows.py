"""Depthwise convolutions and pools, in floats and in codes, against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_checks.harness import Images, to_codes
from kernel_checks.reference import convolution, taps_of
from tvm import tirx

from graphpress.backends.tvm.codegen.builder import KernelBuilder
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.depthwise import Depthwise, can_zip, exact_in_floats, packed_taps, per_lane
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.pool import AveragePool, GlobalAveragePool, MaxPool, Taps
from graphpress.backends.tvm.kernels.stages import Destination, Multiply, Position, Scale, StageContext
from graphpress.backends.tvm.kernels.window import TapWindow

IMAGES, CHANNELS, ZERO = 2, 85, 7
WINDOWS = {
    "3x3 by 2": TapWindow((3, 3), (2, 2), (1, 1), (1, 1)),
    "5x3": TapWindow((5, 3), (1, 1), (1, 1), (2, 1)),
    "dilated": TapWindow((3, 3), (1, 2), (2, 1), (2, 1)),
    "unpadded": TapWindow((2, 2), (2, 2)),
}
SIZE = (9, 11)


@pytest.fixture(params=["floats", "codes"])
def dtype(request, isa) -> str:
    """The type of the elements."""
    return "float32" if request.param == "floats" else isa.dot.activations


def planes(window: TapWindow, dtype: str, lanes: int) -> tuple[Plane, Plane]:
    """What is read and what is written, halos around both."""
    sizes = [
        (length + 2 * pad - (taps - 1) * step - 1) // stride + 1
        for length, pad, taps, step, stride in zip(
            SIZE, window.pads, window.taps, window.dilations, window.strides, strict=True
        )
    ]
    stride = whole_vectors(CHANNELS, lanes)
    return (
        Plane(CHANNELS, *SIZE, stride, Halo(2, 2, 3, 3), dtype),
        Plane(CHANNELS, *sizes, stride, Halo(1, 0, 0, 1), dtype),
    )


def zero_point(dtype: str) -> int:
    """Floats have none."""
    return 0 if dtype == "float32" else ZERO


def weights(isa: Isa, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """All codes that the instruction set multiplies exactly."""
    largest = isa.dot.largest_weight
    return rng.integers(-largest, min(largest, 127) + 1, shape)


def compare(result: np.ndarray, expected: np.ndarray, dtype: str) -> None:
    """Codes bit for bit."""
    if dtype == "float32":
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(result, to_codes(expected, ZERO, dtype))


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_depthwise_convolutions(window, dtype, isa, compiled):
    rng, integer = np.random.default_rng(0), dtype != "float32"
    source, result = planes(window, dtype, isa.lanes)
    stages = (Scale(),) if integer else ()
    store = Destination(result, zero_point(dtype))
    ways = [(False, False), *([(True, False)] if integer else []), *([(True, True)] if can_zip(store, isa) else [])]
    variants = [Depthwise(source, store, window, stages, 4, *way) for way in ways]
    data = Images.random(source, IMAGES, rng, zero_point(dtype))
    shape = (CHANNELS, 1, *window.taps)
    kernel = weights(isa, rng, shape) if integer else rng.standard_normal(shape)
    bias = rng.integers(-999, 999, CHANNELS) if integer else rng.standard_normal(CHANNELS)
    scales = (rng.random(CHANNELS) * 1e-2).astype(np.float32)
    expected = convolution(data.numbers(zero_point(dtype)), kernel, CHANNELS, window, result) + bias
    expected = expected.astype(np.float32) * scales if integer else expected
    kernels = compiled(variants)
    for variant in variants:
        moved = bias - zero_point(dtype) * kernel.sum((1, 2, 3))
        memory = kernels.run(
            variant,
            IMAGES,
            Images.filled(result, IMAGES, 0).memory,
            source=np.nan_to_num(data.memory),
            weights=packed_taps(variant, kernel, isa.lanes),
            bias=per_lane(variant, moved, isa.lanes),
            scales=per_lane(variant, scales, isa.lanes),
        )
        compare(Images(result, memory).values, expected, dtype)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_pools_leave_padding_out(window, dtype, isa, compiled):
    rng, zero = np.random.default_rng(0), zero_point(dtype)
    source, result = planes(window, dtype, isa.lanes)
    source = replace(source, halo=Halo())  # padding is not read
    largest = MaxPool(source, result, window)
    mean = AveragePool(source, Destination(result, zero), window, zero)
    padded = AveragePool(source, Destination(result, zero), window, zero, counts_padding=True)
    data = Images.random(source, IMAGES, rng, zero)
    numbers = data.numbers(zero)
    expected = {
        largest: np.max(list(taps_of(numbers, window, result, -np.inf)), axis=0),
        mean: np.nanmean(list(taps_of(numbers, window, result, np.nan)), axis=0),
        padded: np.mean(list(taps_of(numbers, window, result, 0.0)), axis=0),
    }
    kernels = compiled(list(expected))
    for kernel, values in expected.items():
        memory = kernels.run(kernel, IMAGES, Images.filled(result, IMAGES, 0).memory, source=data.memory)
        compare(Images(result, memory).values, values, dtype)


def test_the_mean_of_a_window_that_lies_in_padding_alone_is_zero(dtype, isa, compiled):
    source = result = Plane(CHANNELS, 1, 1, whole_vectors(CHANNELS, isa.lanes), Halo(), dtype)
    zero = zero_point(dtype)
    kernel = AveragePool(source, Destination(result, zero), TapWindow((2, 2), (1, 1), (2, 2), (1, 1)), zero)
    data = Images.random(source, IMAGES, np.random.default_rng(0), zero)
    memory = compiled([kernel]).run(kernel, IMAGES, Images.filled(result, IMAGES, 9).memory, source=data.memory)
    compare(Images(result, memory).values, np.zeros((IMAGES, 1, 1, CHANNELS)), dtype)


def test_pools_read_nothing_before_their_source(isa):
    window = TapWindow((3, 3), (2, 2), (1, 1), (1, 1))
    source, result = Plane(24, 32, 32, 32), Plane(24, 16, 16, 32)
    b = KernelBuilder()
    memory = {"source": b.pointer("source", "float32")}
    loaded = [tap.load(StageContext(b, isa, memory, 1)) for tap in Taps(window, source, result, Position(0, 0, 0, 0))]
    assert len(loaded) == 9
    assert all(isinstance(value, tirx.Var) for value in loaded)  # named before anything selects


def test_global_pools_sum_all_pixels(dtype, isa, compiled):
    zero, stride = zero_point(dtype), whole_vectors(CHANNELS, isa.lanes)
    source = Plane(CHANNELS, *SIZE, stride, Halo(1, 1, 1, 1), dtype)
    result = Plane(CHANNELS, 1, 1, stride, Halo(), dtype)
    kernel = GlobalAveragePool(source, Destination(result, zero), zero, (Multiply(1 / 99),))
    data = Images.random(source, IMAGES, np.random.default_rng(0), zero)
    memory = compiled([kernel]).run(kernel, IMAGES, Images.filled(result, IMAGES, 0).memory, source=data.memory)
    compare(Images(result, memory).values[:, 0, 0], data.numbers(zero).mean((1, 2)), dtype)


def test_sums_of_codes_are_exact_in_floats_below_24_bits():
    bias = np.zeros(1, np.int32)
    assert exact_in_floats(np.full((1, 1, 3, 3), 127, np.int8), bias)
    assert not exact_in_floats(np.full((1, 1, 31, 31), 127, np.int8), bias)
