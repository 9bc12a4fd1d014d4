"""Batches of fixed size, views of memory, and types that are moved alone, in whole graphs against ONNX Runtime."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from kernel_checks.graphs import assert_like_onnxruntime, graph

from graphpress.backends.tvm.kernels.strided import StridedCopy
from graphpress.backends.tvm.kernels.transposition import Transposition
from graphpress.backends.tvm.lowering.lower import lower

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    """Random floats."""
    return RNG.standard_normal(shape).astype(np.float32)


CASES = {
    "a batch of three": (
        """(float[3, 5, 9, 9] x) => (float[3, 4] z) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w)
            b = Relu(a)
            c = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
            d = GlobalAveragePool(c)
            e = Flatten(d)
            z = MatMul(e, v)
        }""",
        {"w": normal(7, 5, 3, 3), "v": normal(7, 4)},
    ),
    "windows of pixels as a batch": (
        """(float[1, 6, 8, 8] x) => (float[1, 6, 8, 8] z) {
            a = Transpose<perm = [0, 2, 3, 1]>(x)
            b = Reshape(a, windows)
            c = Transpose<perm = [0, 1, 3, 2, 4, 5]>(b)
            d = Reshape(c, tokens)
            e = MatMul(d, v)
            f = Reshape(e, apart)
            g = Transpose<perm = [0, 1, 3, 2, 4, 5]>(f)
            h = Reshape(g, whole)
            z = Transpose<perm = [0, 3, 1, 2]>(h)
        }""",
        {
            "v": normal(6, 6),
            "windows": np.array([1, 2, 4, 2, 4, 6]),
            "tokens": np.array([4, 16, 6]),
            "apart": np.array([1, 2, 2, 4, 4, 6]),
            "whole": np.array([1, 8, 8, 6]),
        },
    ),
    "channels last from the caller": (
        """(float[1, 7, 7, 20] x) => (float[1, 3, 7, 7] z) {
            a = Transpose<perm = [0, 3, 1, 2]>(x)
            z = Conv<pads = [1, 1, 1, 1]>(a, w)
        }""",
        {"w": normal(3, 20, 3, 3)},
    ),
    "the images are moved": (
        """(float[2, 3, 20] x) => (float[3, 2, 5] z) {
            a = Transpose<perm = [1, 0, 2]>(x)
            z = MatMul(a, v)
        }""",
        {"v": normal(20, 5)},
    ),
    "joined with a constant": (
        """(float[1, 4, 20] x) => (float[1, 5, 20] z) { z = Concat<axis = 1>(first, x) }""",
        {"first": normal(1, 1, 20)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_graphs(case, newest, tmp_path):
    text, weights = CASES[case]
    model = graph(text, **weights)
    shape = list(model.graph.inputs[0].shape)
    assert_like_onnxruntime(model, {"x": normal(*shape)}, newest, tmp_path, threads=2)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_other_types_are_moved(dtype, newest, tmp_path):
    model = graph(
        f"({dtype}[2, 3, 20] x) => ({dtype}[3, 40] z) {{ a = Transpose<perm = [1, 0, 2]>(x) z = Flatten(a) }}"
    )
    data = RNG.integers(0, 2 if dtype == "bool" else 100, (2, 3, 20)).astype(dtype)
    assert_like_onnxruntime(model, {"x": data}, newest, tmp_path, tolerance=0)


def test_a_view_moves_nothing(newest):
    text, weights = CASES["windows of pixels as a batch"]
    steps = lower(graph(text, **weights), newest).steps
    copies = [step for step in steps if isinstance(step.kernel, StridedCopy | Transposition)]
    assert len(copies) == 3  # into windows, out of them, and to the caller
