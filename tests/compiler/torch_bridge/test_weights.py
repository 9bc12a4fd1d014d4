"""Which constants train: by the places that read them."""

import numpy as np
import pytest


def ones(*shape):
    return np.ones(shape, np.float32)


CASES = {
    "convolution": ("(float[1,2,4,4] x) => (float[1,3,4,4] y) { y = Conv (x, w, b) }",
                    {"w": ones(3, 2, 1, 1), "b": ones(3)}, {"w", "b"}),
    "product from the left": ("(float[2,3] x) => (float[2,3] y) { y = MatMul (w, x) }", {"w": ones(2, 2)}, {"w"}),
    "a weight of one element": ("(float[2,1] x) => (float[2,1] y) { y = MatMul (x, w) }", {"w": ones(1, 1)}, {"w"}),
    "batch norm": ("(float[1,2,4,4] x) => (float[1,2,4,4] y) { y = BatchNormalization (x, s, b, m, v) }",
                   {"s": ones(2), "b": ones(2), "m": 0 * ones(2), "v": ones(2)}, {"s", "b"}),
    "layer norm": ("(float[2,4] x) => (float[2,4] y) { y = LayerNormalization (x, s, b) }",
                   {"s": ones(4), "b": ones(4)}, {"s", "b"}),
    "slopes": ("(float[1,2,4] x) => (float[1,2,4] y) { y = PRelu (x, s) }", {"s": ones(1)}, {"s"}),
    "table": ("(int64[2] i) => (float[2,4] y) { y = Gather (w, i) }", {"w": ones(5, 4)}, {"w"}),
    "token": ("(float[1,2,4] x) => (float[1,3,4] y) { y = Concat <axis = 1> (t, x) }", {"t": ones(1, 1, 4)}, {"t"}),
    "elementwise": ("(float[2,4] x) => (float[2,4] y) { y = Mul (x, w) }", {"w": ones(4)}, {"w"}),
    "factor": ("(float[2,4] x) => (float[2,4] y) { y = Mul (x, w) }", {"w": ones(1)}, set()),
    "mask": ("(float[2,4] x) => (float[2,4] y) { y = Add (x, w) }", {"w": np.float32([0, 0, -1e9, 0])}, set()),
    "bounds": ("(float[2] x) => (float[2] y) { y = Clip (x, a, b) }",
               {"a": np.float32(0), "b": np.float32(6)}, set()),
    "scales": ("(float[1,1,2,2] x) => (float[1,1,4,4] y) { y = Resize (x, , s) }",
               {"s": np.array([1, 1, 2, 2], np.float32)}, set()),
    "threshold": ("(float[4] x) => (bool[4] y) { y = Greater (x, w) }", {"w": ones(4)}, set()),
    "integers": ("(float[4] x) => (float[2,2] y) { y = Reshape (x, s) }", {"s": np.array([2, 2])}, set()),
    "a statistic that doubles as a scale": (
        "(float[1,2,4,4] x) => (float[1,2,4,4] y) { y = BatchNormalization (x, s, b, b, s) }",
        {"s": ones(2), "b": 0 * ones(2)}, set()),
    "shape only": ("(float[2] x) => (int64[1] y, float[2] z) { y = Shape (w) z = Relu (x) }", {"w": ones(3)}, set()),
    "weight and its shape": ("(float[2,3] x) => (int64[2] y, float[2,3] z) { y = Shape (w) z = MatMul (x, w) }",
                             {"w": ones(3, 3)}, {"w"}),
    "output": ("(float[2,3] x) => (float[3,3] w, float[2,3] z) { z = MatMul (x, w) }", {"w": ones(3, 3)}, set()),
    "half": ("(float16[2,3] x) => (float16[2,3] z) { z = MatMul (x, w) }", {"w": ones(3, 3).astype(np.float16)}, {"w"}),
    "tied": ("(int64[2] i) => (float[2,5] y) { e = Gather (w, i) t = Transpose (w) y = MatMul (e, t) }",
             {"w": ones(5, 4)}, {"w"}),
    "unknown operator's": ("(float[2] x) => (float[2] y) { z = Relu (x) y = Identity (z) }", {}, set()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_trained_are_places_where_numbers_are_learned(build, bridge, case):
    text, weights, trained = CASES[case]
    assert set(bridge.to_module(build(text, **weights)).parameters) == trained


def test_the_caller_may_choose(build, bridge):
    model = build(CASES["convolution"][0], **CASES["convolution"][1])
    assert set(bridge.to_module(model, trainable=lambda value: value.name == "b").parameters) == {"b"}


def test_the_caller_cannot_choose_integers(build, bridge):
    model = build(CASES["integers"][0], **CASES["integers"][1])
    assert not bridge.to_module(model, trainable=lambda value: True).parameters
