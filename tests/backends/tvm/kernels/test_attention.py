"""Attention against numpy in float64: masks, causal edges, grouped heads, lengths and widths of every number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_checks.attention import IMAGES, Example
from kernel_checks.views import dense_view, permuted_view

from graphpress.backends.tvm.kernels.attention import AttentionKernel, AttentionSizes

pytestmark = pytest.mark.floats

CASES = {
    "whole tiles": AttentionSizes(1, 2, 2, 12, 64, 32, 32),
    "rests everywhere": AttentionSizes(2, 4, 2, 13, 37, 19, 21),
    "one query": AttentionSizes(1, 4, 1, 1, 70, 16, 16),
    "few keys": AttentionSizes(1, 1, 1, 7, 3, 8, 4),
}


@pytest.mark.parametrize("name", CASES)
def test_without_a_mask(name, isa, compiled):
    example = Example(CASES[name])
    result = example.run(compiled, example.kernel(isa))
    np.testing.assert_allclose(result, example.expected(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "edge"), [("rests everywhere", 5), ("one query", 69), ("few keys", 0)])
def test_causal_attention_sees_what_came_before(name, edge, isa, compiled):
    example = Example(CASES[name])
    s = example.sizes
    unseen = np.arange(s.keys) > np.arange(s.queries)[:, None] + edge
    result = example.run(compiled, example.kernel(isa, edge=edge))
    np.testing.assert_allclose(result, example.expected(np.where(unseen, -np.inf, 0)), rtol=1e-5, atol=1e-5)


def test_masks_are_added_and_may_hide_all_keys(isa, compiled):
    example = Example(CASES["rests everywhere"])
    s, rng = example.sizes, np.random.default_rng(1)
    mask = rng.standard_normal((IMAGES, s.batch, s.heads, s.queries, s.keys)).astype(np.float32)
    mask[rng.random(mask.shape) < 0.3] = -np.inf
    mask[:, :, 0, 3] = -np.inf
    mask[:, :, 0, 4] = np.finfo(np.float32).min
    example.operands["mask"] = mask
    result = example.run(compiled, example.kernel(isa, softcap=2.0))
    np.testing.assert_allclose(result, example.expected(mask, 2.0), rtol=1e-5, atol=1e-5)


def test_masks_are_spread_and_may_say_which_keys_are_seen(isa, compiled):
    example = Example(CASES["few keys"])
    mask = np.random.default_rng(1).random((IMAGES, 1, 1, 7, 3)) < 0.5
    kernel = example.kernel(isa, mask=replace(dense_view(mask, spread=(1,)), dtype="uint8"))
    example.operands["mask"] = mask
    expected = example.expected(np.where(mask, 0, -np.inf))
    np.testing.assert_allclose(example.run(compiled, kernel), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 1, 7, 1)])
def test_masks_of_one_row_or_column(shape, isa, compiled):
    example = Example(CASES["few keys"])
    mask = np.random.default_rng(1).standard_normal((IMAGES, *shape)).astype(np.float32)
    kernel = example.kernel(isa, mask=dense_view(mask, spread=[axis for axis in range(4) if shape[axis] == 1]))
    example.operands["mask"] = mask
    np.testing.assert_allclose(example.run(compiled, kernel), example.expected(mask), rtol=1e-5, atol=1e-5)


def test_operands_may_lie_in_any_order(isa, compiled):
    """As they come from one product: heads within a position."""
    example = Example(CASES["rests everywhere"])
    kernel = example.kernel(isa)
    for name in ("query", "value"):
        example.operands[name] = np.ascontiguousarray(example.operands[name].swapaxes(2, 3))
    views = {name: permuted_view(example.operands[name], (0, 2, 1, 3)) for name in ("query", "value")}
    result = example.run(compiled, AttentionKernel(**{**vars(kernel), **views}))
    for name in ("query", "value"):
        example.operands[name] = example.operands[name].swapaxes(2, 3)
    np.testing.assert_allclose(result, example.expected(), rtol=1e-5, atol=1e-5)
