"""drop_default_states: initial states that are zero anyway."""

from __future__ import annotations

import numpy as np

from graphpress.passes.cleanup.drop_default_states import DropDefaultStates

WEIGHTS = {
    "w": np.ones((1, 12, 2), np.float32), "r": np.ones((1, 12, 3), np.float32), "size": np.array([1, 1, 3]),
    "zero": np.array(0, np.float32), "zeros": np.zeros((1, 1, 3), np.float32), "ones": np.ones((1, 1, 3), np.float32),
}  # fmt: skip
TEXT = "(float[4,1,2] x) => (float[1,1,3] y) {{ {state} q, y = LSTM<hidden_size=3>(x, w, r, , , h, c) }}"


def test_states_of_zero_are_left_out(build, clean):
    text = TEXT.format(state="h = Expand(zero, size) c = ConstantOfShape(size)")
    done = clean(DropDefaultStates(), build(text, **WEIGHTS))
    assert done.model.graph[-1].inputs[5:] == (None, None)


def test_a_constant_of_zeros_is_left_out(build, clean):
    text = TEXT.format(state="h = Expand(ones, size)").replace("h, c)", "h, zeros)")
    done = clean(DropDefaultStates(), build(text, **WEIGHTS))
    assert [value is None for value in done.model.graph[-1].inputs[5:]] == [False, True]


def test_other_states_stay(build, clean):
    text = TEXT.format(state="h = Expand(ones, size) c = Mul(h, h)")
    assert clean(DropDefaultStates(), build(text, **WEIGHTS)).outcome.changes == 0
