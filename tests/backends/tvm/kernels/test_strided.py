"""Copies between views of memory, against numpy's own strides."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from kernel_checks.harness import Images, to_codes

from graphpress.backends.tvm.kernels.interleave import Interleave
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Divide, Multiply
from graphpress.backends.tvm.kernels.strided import strided_copy
from graphpress.backends.tvm.kernels.transposition import Transposition
from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.lowering.layout import channels_last, natural, plane_of, view_of

IMAGES, CHANNELS, SIZE, ZERO = 2, 37, (5, 21), 7
SHAPE = (IMAGES, CHANNELS, *SIZE)


def view(array: np.ndarray) -> StridedView:
    """Of an array whose first element is the first of its memory."""
    return StridedView(0, tuple(step // array.itemsize for step in array.strides), array.size, array.dtype.name)


@pytest.mark.parametrize("codes", [False, True])
def test_tensors_become_planes_and_planes_tensors(codes, isa, compiled):
    dtype = isa.dot.activations if codes else "float32"
    scale, zero = (0.5, ZERO) if codes else (1.0, 0)
    layout = Plane(CHANNELS, *SIZE, whole_vectors(CHANNELS, isa.lanes), Halo(1, 2, 0, 1), dtype)
    tensor = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32) * 9
    inside, outside = view_of(SHAPE, channels_last(4), layout, zero), view(tensor)
    there = strided_copy(SHAPE, outside, inside, (Divide(scale),))
    back = strided_copy(SHAPE, inside, outside, (Multiply(scale),))
    kernels = compiled([there, back])
    memory = kernels.run(there, 1, Images.filled(layout, IMAGES, zero).memory, source=tensor)
    numbers = Images(layout, memory).numbers(zero)
    expected = to_codes(tensor / scale, zero, dtype) - zero if codes else tensor
    np.testing.assert_array_equal(numbers.transpose(0, 3, 1, 2), expected)
    halo = memory.copy()
    Images(layout, halo).values[:] = zero
    assert np.all(halo == zero)
    result = kernels.run(back, 1, np.zeros_like(tensor), source=memory)
    np.testing.assert_allclose(result, expected * scale, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_few_channels_become_pixels_of_codes(channels, isa, compiled):
    dtype, shape = isa.dot.activations, (IMAGES, channels, *SIZE)
    layout = Plane(channels, *SIZE, 4, Halo(1, 2, 0, 1), dtype)
    tensor = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 200
    views = view(tensor), view_of(shape, channels_last(4), layout, ZERO)
    kernel = strided_copy(shape, *views, (Divide(0.5),), owns_gaps=True)
    assert isinstance(kernel, Interleave) == (channels > 1)
    assert isinstance(strided_copy(shape, *views, (Divide(0.5),)), Interleave) == (channels == 4)
    memory = compiled([kernel]).run(kernel, 1, Images.filled(layout, IMAGES, ZERO).memory, source=tensor)
    expected = to_codes(tensor / np.float32(0.5), ZERO, dtype)
    np.testing.assert_array_equal(Images(layout, memory).values.transpose(0, 3, 1, 2), expected)
    halo = np.ones(memory.shape[:3], bool)
    halo[:, 1 : 1 + SIZE[0], 2 : 2 + SIZE[1]] = False
    assert np.all(memory[halo] == ZERO)


@pytest.mark.floats
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_images_of_few_channels_become_pixels_without_gaps(channels, isa, compiled):
    shape = (IMAGES, channels, 3, 37)
    layout = Plane(channels, 3, 37, channels, Halo(1, 2, 0, 1))
    tensor = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    kernel = strided_copy(shape, view(tensor), view_of(shape, channels_last(4), layout), (Multiply(2.0),))
    assert isinstance(kernel, Interleave)
    memory = compiled([kernel]).run(kernel, 1, Images.filled(layout, IMAGES, 7).memory, source=tensor)
    np.testing.assert_array_equal(Images(layout, memory).values.transpose(0, 3, 1, 2), 2 * tensor)
    halo = np.ones(memory.shape[:3], bool)
    halo[:, 1:4, 2:39] = False
    assert np.all(memory[halo] == 7)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64"])
def test_every_order_of_five_axes(dtype, newest, isa, compiled):
    if isa is not newest:
        pytest.skip("the code is the same for all but the width of vectors")
    data = np.random.default_rng(0).integers(0, 200, (2, 3, 1, 5, 18)).astype(dtype)
    orders = list(permutations(range(5)))[:: 7 if dtype == "float32" else 23]
    results = [np.zeros(np.transpose(data, order).shape, dtype) for order in orders]
    copies = [
        strided_copy(result.shape, view(data.transpose(order)), view(result))
        for order, result in zip(orders, results, strict=True)
    ]
    kernels = compiled(copies)
    for order, result, copy in zip(orders, results, copies, strict=True):
        np.testing.assert_array_equal(kernels.run(copy, 1, result, source=data), data.transpose(order))


def test_slices_run_backwards_and_repeat(isa, compiled):
    data = np.arange(3 * 4 * 40, dtype=np.float32).reshape(3, 4, 40)
    part = data[1:, ::-1, 5:35:3]
    start = 1 * 160 + 3 * 40 + 5
    source = StridedView(start, tuple(step // 4 for step in part.strides), data.size)
    result = np.zeros(part.shape, np.float32)
    repeated = np.zeros((3, 4, 6, 40), np.float32)
    several = StridedView(0, (160, 40, 0, 1), data.size)
    copies = [strided_copy(part.shape, source, view(result)), strided_copy(repeated.shape, several, view(repeated))]
    kernels = compiled(copies)
    np.testing.assert_array_equal(kernels.run(copies[0], 1, result, source=data), part)
    np.testing.assert_array_equal(
        kernels.run(copies[1], 1, repeated, source=data), np.broadcast_to(data[:, :, None], repeated.shape)
    )


def test_several_samples_follow_each_other(isa, compiled):
    data = np.random.default_rng(0).standard_normal((4, 6, 20)).astype(np.float32)
    kernel = strided_copy((6, 20), StridedView(0, (20, 1), 120), StridedView(0, (1, 6), 120))
    result = compiled([kernel]).run(kernel, 4, np.zeros((4, 20, 6), np.float32), source=data)
    np.testing.assert_array_equal(result, data.transpose(0, 2, 1))


def test_axes_that_follow_each_other_are_one():
    shape = (2, 3, 4, 5)
    dense = view_of(shape, natural(4), plane_of(shape, natural(4), 1))
    assert strided_copy(shape, dense, dense).extents == (120,)


@pytest.mark.parametrize("codes", [False, True])
def test_blocks_are_transposed_and_what_is_left_of_them_gathered(codes, isa, compiled):
    dtype, zero = (isa.dot.activations, ZERO) if codes else ("float32", 0)
    data = np.random.default_rng(0).integers(0, 100, (IMAGES, 3, 37, 50)).astype(dtype)
    result = np.zeros((IMAGES, 3, 50, 37), np.float32)
    source = replace(view(data[0].swapaxes(1, 2)), zero_point=zero)
    copy = strided_copy(result.shape[1:], source, view(result[0]), (Multiply(0.5),))
    assert isinstance(copy, Transposition)
    computed = compiled([copy]).run(copy, IMAGES, result, source=data)
    np.testing.assert_array_equal(computed, (data.swapaxes(2, 3).astype(np.float32) - zero) * 0.5)
