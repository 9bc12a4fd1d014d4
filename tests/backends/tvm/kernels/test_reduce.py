"""Reductions over any axes, in floats and in codes, against numpy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from kernel_checks.harness import Images, to_codes

from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.reduce import FOLDS, Reduce
from graphpress.backends.tvm.kernels.stages import ApplyFunction, Destination, Multiply

IMAGES, EXTENTS, ZERO = 2, (3, 7, 37), 5
EXPECTED = {
    "max": np.max,
    "min": np.min,
    "product": np.prod,
    "sum": np.sum,
    "sum_of_magnitudes": lambda numbers, **axes: np.abs(numbers).sum(**axes),
    "sum_of_squares": lambda numbers, **axes: np.square(numbers).sum(**axes),
}
AXES = [axes for axes in product((False, True), repeat=3) if any(axes)]


def planes(isa, axes: tuple[bool, ...], dtype: str = "float32") -> tuple[Plane, Plane]:
    """What is read, and what is left of it."""
    left = [1 if reduced else extent for extent, reduced in zip(EXTENTS, axes, strict=True)]
    source, result = (
        Plane(channels, height, width, whole_vectors(channels, isa.lanes), halo, dtype)
        for (height, width, channels), halo in ((EXTENTS, Halo(1, 1, 2, 0)), (left, Halo(0, 1, 1, 0)))
    )
    return source, result


def test_every_fold_has_an_expectation():
    assert EXPECTED.keys() == FOLDS.keys()


@pytest.mark.floats
def test_floats(isa, compiled):
    cases = [(axes, fold) for axes in AXES for fold in (EXPECTED if axes in AXES[:2] else ["sum"])]
    kernels = {}
    for axes, fold in cases:
        source, result = planes(isa, axes)
        kernels[axes, fold] = Reduce(source, Destination(result), fold, axes)
    library = compiled(list(kernels.values()))
    for (axes, fold), kernel in kernels.items():
        data = Images.random(kernel.source, IMAGES, np.random.default_rng(0))
        result = kernel.store.plane
        memory = library.run(kernel, IMAGES, Images.filled(result, IMAGES, 0).memory, source=np.nan_to_num(data.memory))
        reduced = tuple(axis + 1 for axis, gone in enumerate(axes) if gone)
        expected = EXPECTED[fold](data.numbers(), axis=reduced, keepdims=True)
        np.testing.assert_allclose(Images(result, memory).values, expected, rtol=1e-4, atol=1e-4, err_msg=fold)


@pytest.mark.parametrize("fold", ["sum", "max", "sum_of_squares"])
def test_codes(fold, isa, compiled):
    kernels, stages = [], (ApplyFunction("sqrt"),) if fold == "sum_of_squares" else (Multiply(1 / 16),)
    for axes in (AXES[0], AXES[-2], AXES[-1]):
        source, result = planes(isa, axes, isa.dot.activations)
        kernels.append(Reduce(source, Destination(result, 3), fold, axes, stages, ZERO))
    library = compiled(kernels)
    for kernel in kernels:
        data = Images.random(kernel.source, IMAGES, np.random.default_rng(0), ZERO)
        result = kernel.store.plane
        memory = library.run(kernel, IMAGES, Images.filled(result, IMAGES, 0).memory, source=data.memory)
        reduced = tuple(axis + 1 for axis, gone in enumerate(kernel.axes) if gone)
        numbers = EXPECTED[fold](data.numbers(ZERO), axis=reduced, keepdims=True).astype(np.float32)
        numbers = np.sqrt(numbers) if fold == "sum_of_squares" else numbers * np.float32(1 / 16)
        np.testing.assert_array_equal(Images(result, memory).values, to_codes(numbers, 3, result.dtype))
