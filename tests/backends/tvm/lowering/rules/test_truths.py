"""Comparisons, logic and choices: truth values as bytes, in stages; conversions between types; against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import assert_like_onnxruntime, graph

from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.emulator import find_emulator
from graphpress.backends.tvm.kernels.batched_product import BatchedProduct
from graphpress.backends.tvm.lowering.lower import lower

RNG = np.random.default_rng(0)
MANY = """(float[2,3,20] x, float[2,3,20] y, float[2,1,20] row, float[2,3,1] column, bool[2,3,20] b, bool[20] c,
    int64[2,3,20] n, float16[2,3,20] h, float[2,3,20] e, uint8[2,3,20] u) => (
    bool[2,3,20] equal, bool[2,3,20] less, bool[2,3,20] at_most, bool[2,3,20] greater, bool[2,3,20] at_least,
    bool[2,3,20] both, bool[2,3,20] either, bool[2,3,20] one_of, bool[2,3,20] neither, bool[2,3,20] nan,
    bool[2,3,20] infinite, bool[2,3,20] below, float[2,3,20] chosen, float[2,3,20] zeroed, float[2,3,20] behind,
    float[2,3,20] conditions, bool[2,3,20] alike, float[2,3,20] spread, bool[2,3,20] truth, bool[2,3,20] counted,
    float[2,3,20] ones, float[2,3,20] single, float16[2,3,20] half, bool[2,3,20] bytes, float[2,3,20] outer) {
    equal = Equal(x, y)
    less = Less(x, row)
    at_most = LessOrEqual(x, y)
    greater = Greater(row, x)
    at_least = GreaterOrEqual(x, y)
    both = And(b, c)
    either = Or(b, c)
    one_of = Xor(c, b)
    neither = Not(either)
    nan = IsNaN(e)
    infinite = IsInf(e)
    below = IsInf<detect_positive = 0>(e)
    chosen = Where(b, x, column)
    zeroed = Where(c, zero, x)
    shifted = Add(x, y)
    behind = Where(less, shifted, lowest)
    conditions = Where(less, row, y)
    alike = Equal(b, c)
    spread = Where(c, row, column)
    truth = Cast<to = 9>(e)
    counted = Cast<to = 9>(n)
    ones = Cast<to = 1>(b)
    single = Cast<to = 1>(h)
    half = Cast<to = 10>(x)
    bytes = Less(u, few)
    outer = Sub(row, column)
}"""
CONSTANTS = {
    "zero": np.array(0, np.float32),
    "lowest": np.array(-100, np.float32),
    "few": np.array(100, np.uint8),
}


def feed() -> dict[str, np.ndarray]:
    """Numbers that are alike here and there, infinite, and none."""
    shape = (2, 3, 20)
    x, y, e = (RNG.integers(-2, 3, shape).astype(np.float32) for _ in range(3))
    e[0, 0, :5] = np.nan, np.inf, -np.inf, 1e-30, -np.nan
    return {
        "x": x,
        "y": y,
        "e": e,
        "row": RNG.integers(-2, 3, (2, 1, 20)).astype(np.float32),
        "column": RNG.standard_normal((2, 3, 1)).astype(np.float32),
        "b": RNG.random(shape) < 0.5,
        "c": RNG.random(20) < 0.5,
        "n": RNG.integers(-1, 2, shape) << 40,
        "h": RNG.standard_normal(shape).astype(np.float16),
        "u": RNG.integers(0, 256, shape).astype(np.uint8),
    }


@pytest.fixture(params=["newest", "neon-dotprod"])
def isa_of_codes(request, here):
    """One whose codes are bytes without a sign, as truth values are, and one whose codes have one."""
    isa = here[-1] if request.param == "newest" else ISAS[request.param]
    if isa not in here and find_emulator(isa) is None:
        pytest.skip("needs qemu-user")
    return isa


def test_all_are_kernels_and_right(isa_of_codes, tmp_path):
    model = graph(MANY, **CONSTANTS)
    assert not lower(model, isa_of_codes).generic
    assert_like_onnxruntime(model, feed(), isa_of_codes, tmp_path)


def test_a_masked_product_is_one_kernel(newest, tmp_path):
    """As transformers mask scores: what a mask hides is the lowest number."""
    text = """(float[1,2,5,8] q, float[1,2,8,5] k, bool[1,1,1,5] seen) => (float[1,2,5,5] s) {
        scores = MatMul(q, k)
        scaled = Mul(scores, eighth)
        s = Where(seen, scaled, lowest)
    }"""
    model = graph(text, eighth=np.array(0.125, np.float32), lowest=np.array(-50, np.float32))
    data = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in
            (("q", (1, 2, 5, 8)), ("k", (1, 2, 8, 5)))}  # fmt: skip
    data["seen"] = np.array([1, 1, 0, 1, 0], bool).reshape(1, 1, 1, 5)
    products = [step for step in lower(model, newest).steps if isinstance(step.kernel, BatchedProduct)]
    assert len(products[0].nodes) == 3
    assert_like_onnxruntime(model, data, newest, tmp_path)


def test_integers_that_float32_does_not_hold_are_compared_by_loops(newest, tmp_path):
    model = graph("(int64[4] n, int64[4] m) => (bool[4] y) { y = Equal(n, m) }")
    assert lower(model, newest).generic
    near = np.array([1 << 24, (1 << 24) + 1, 1 << 40, 3])
    assert_like_onnxruntime(model, {"n": near, "m": near + np.array([1, 0, 1, 0])}, newest, tmp_path)
