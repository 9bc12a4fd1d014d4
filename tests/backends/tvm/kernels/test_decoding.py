"""Attention of one query against numpy in float64: groups of heads, lengths, masks and edges."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.attention import Example
from kernel_checks.views import permuted_view

from graphpress.backends.tvm.kernels.attention import AttentionSizes
from graphpress.backends.tvm.kernels.decoding import DecodingAttention

pytestmark = pytest.mark.floats

CASES = {
    "one head a key": AttentionSizes(2, 2, 2, 1, 37, 16, 32),
    "groups of nine": AttentionSizes(1, 18, 2, 1, 150, 32, 16),
    "fewer keys than lanes": AttentionSizes(1, 2, 1, 1, 3, 16, 16),
}


def decoding(example: Example, isa, **options) -> DecodingAttention:
    """The kernel over keys whose elements follow each other."""
    example.operands["key"] = np.ascontiguousarray(example.operands["key"].swapaxes(3, 4))
    views = vars(example.kernel(isa, **options)) | {"key": permuted_view(example.operands["key"], (0, 1, 3, 2))}
    return DecodingAttention(**views)


@pytest.mark.parametrize("name", CASES)
def test_without_a_mask(name, isa, compiled):
    example = Example(CASES[name])
    expected = example.expected()
    result = example.run(compiled, decoding(example, isa))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_masks_and_edges_hide_keys(isa, compiled):
    example = Example(CASES["groups of nine"])
    s, rng = example.sizes, np.random.default_rng(1)
    mask = rng.standard_normal((2, s.batch, s.heads, 1, s.keys)).astype(np.float32)
    mask[rng.random(mask.shape) < 0.3] = -np.inf
    mask[:, :, 3], mask[:, :, 4, :, :140] = -np.inf, -np.inf
    hidden = np.where(np.arange(s.keys) > 141, -np.inf, 0)
    expected = example.expected(mask + hidden, 2.0)
    example.operands["mask"] = mask
    kernel = decoding(example, isa, edge=141, softcap=2.0)
    np.testing.assert_allclose(example.run(compiled, kernel), expected, rtol=1e-5, atol=1e-5)
