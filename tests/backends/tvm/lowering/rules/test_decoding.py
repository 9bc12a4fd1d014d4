"""Attention of one query with a cache, in whole graphs beside ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.graphs import assert_like_onnxruntime, graph

from graphpress.backends.tvm.kernels.attention import AttentionKernel
from graphpress.backends.tvm.kernels.decoding import DecodingAttention
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.transposition import Transposition
from graphpress.backends.tvm.lowering.lower import lower

PAST, GROUPS, HEADS, WIDTH = 37, 2, 6, 32


def cached(queries: int, width: int = WIDTH):
    """Attention with a cache that is an output, and what it is fed."""
    cache, extended = (f"float[2,{GROUPS},{length},{width}]" for length in (PAST, PAST + queries))
    text = f"""(float[2,{queries},{HEADS * width}] q, float[2,{queries},{GROUPS * width}] k,
        float[2,{queries},{GROUPS * width}] v, {cache} past_k, {cache} past_v)
        => (float[2,{queries},{HEADS * width}] y, {extended} keys, {extended} values) {{
        y, keys, values = Attention<q_num_heads = {HEADS}, kv_num_heads = {GROUPS}, is_causal = 1>(
            q, k, v, , past_k, past_v)
    }}"""
    model, rng = graph(text, 23), np.random.default_rng(0)
    shapes = {value.name: tuple(value.shape) for value in model.graph.inputs}
    return model, {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(("queries", "width"), [(1, WIDTH), (1, 20), (3, WIDTH)])
def test_a_cache_is_extended_and_read(queries, width, newest, tmp_path):
    model, feed = cached(queries, width)
    kernels = [step.kernel for step in lower(model, newest).steps]
    attention = next(kernel for kernel in kernels if isinstance(kernel, AttentionKernel))
    assert isinstance(attention, DecodingAttention) == (queries == 1 and width == WIDTH)
    assert_like_onnxruntime(model, feed, newest, tmp_path, threads=2)


def test_keys_and_values_are_written_where_the_caller_wants_them_and_read_there(newest):
    kernels = [type(step.kernel) for step in lower(cached(1)[0], newest).steps]
    assert Transposition not in kernels
    assert kernels.count(Map) == 1  # of the result: its heads lie apart
