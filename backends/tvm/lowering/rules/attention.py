"""Attention of ONNX, with a cache of keys and values, as one kernel.

Keys are brought into the order in which the kernel reads them, where they are not in it; queries and values are read as
they lie, heads and width of one axis as two. One query reads its keys as they lie, too. The result lies position by
position, so that its heads are merged by a view. With a cache, past and new keys and values are written one behind the
other, where the caller wants them, and read from there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from graphpress.backends.tvm.kernels.attention import AttentionKernel, AttentionSizes
from graphpress.backends.tvm.kernels.decoding import DecodingAttention
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.kernels.strided import strided_copy
from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.layout import natural, view_of
from graphpress.backends.tvm.lowering.operands import copied, floats_of, spread, steps_of
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.program import Buffer, CallerTensor, Source
from graphpress.ir import Node, NodeView, Value, constant, input_of
from graphpress.ops.semantics.attention import AttentionAttributes

BATCH, HEADS, LENGTH, WIDTH = range(4)
TRANSPOSED = (BATCH, HEADS, WIDTH, LENGTH)
BY_POSITION = (BATCH, LENGTH, HEADS, WIDTH)
HIDDEN = -1e30
"""A score so low that its weight is zero beside any other."""
MASK, PAST_KEY, PAST_VALUE, PADDING = 3, 4, 5, 6


@dataclass(frozen=True)
class Heads:
    """An operand of attention.

    Args:
        memory: where it lies.
        view: its elements, ``[batch, heads, length, width]``.
        shape: of these axes.
    """

    memory: Source
    view: StridedView
    shape: tuple[int, ...]


def _attention(node: Node, lowering: Lowering) -> None:
    attributes = AttentionAttributes.of(NodeView.of(node))
    if (why := _refusal_reason(node, attributes)) is not None:
        raise refused(node, why)
    query = _heads(lowering, node, 0, attributes.query_heads)
    key, value = (_heads(lowering, node, index, attributes.key_heads) for index in (1, 2))
    past = 0
    if input_of(node, PAST_KEY) is not None:
        past = shape_of(_given(node, PAST_KEY))[LENGTH]
        key, value = (
            _extended(lowering, node, index, heads, node.outputs[output])
            for index, heads, output in ((PAST_KEY, key, 1), (PAST_VALUE, value, 2))
        )
    kind = DecodingAttention if _decodes(lowering, query, key, value) else AttentionKernel
    if kind is AttentionKernel:
        key = _transposed(lowering, key)
    batch, heads, queries, width = query.shape
    sizes = AttentionSizes(batch, heads, key.shape[HEADS], queries, key.shape[LENGTH], width, value.shape[WIDTH])
    edge = past if attributes.causal else _constant_edge(node, queries, sizes.keys)
    is_hidden = edge is not None and not attributes.causal
    mask = None if is_hidden else _mask(lowering, node, (batch, heads, queries, sizes.keys))
    target, epilogue = _result(lowering, node, sizes)
    kernel = kind(
        sizes,
        query.view,
        replace(key.view, steps=tuple(key.view.steps[axis] for axis in TRANSPOSED)),
        value.view,
        Destination(
            Plane(sizes.value_width, queries, heads, sizes.value_width, dtype=target.plane.dtype), target.zero_point
        ),
        1 / math.sqrt(width) if attributes.scale is None else attributes.scale,
        None if mask is None else mask.view,
        edge,
        attributes.softcap,
        tuple(epilogue.stages),
    )
    operands = {"query": query.memory, "key": key.memory, "value": value.memory, "result": target.memory}
    if mask is not None:
        operands["mask"] = mask.memory
    lowering.emit(kernel, operands, [node.name or ""])


def _refusal_reason(node: Node, attributes: AttentionAttributes) -> str | None:
    """Why there is no kernel, or None."""
    if attributes.windowed:
        return "queries see a window of keys only"
    if input_of(node, PADDING) is not None:
        return "the number of keys that count is computed at run time"
    if len(node.outputs) > 3 and _is_wanted(node.outputs[3]):
        return "its scores are read"
    cached = [input_of(node, index) is not None for index in (PAST_KEY, PAST_VALUE)]
    if any(cached) and (not all(cached) or len(node.outputs) < 3):
        return "its cache is read and not written"
    if not any(cached) and any(_is_wanted(value) for value in node.outputs[1:3]):
        return "its cache is written and not read"
    mask = input_of(node, MASK)
    if mask is not None and shape_of(mask)[-1:] not in ((1,), (_keys(node),)):
        return "its mask is of another length than its keys"
    return None


def _is_wanted(value: Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _keys(node: Node) -> int:
    """How many keys there are, with those of the cache."""
    length = shape_of(_given(node, 1))[-2]
    return length if input_of(node, PAST_KEY) is None else length + shape_of(_given(node, PAST_KEY))[LENGTH]


def _given(node: Node, index: int) -> Value:
    value = input_of(node, index)
    assert value is not None
    return value


# -- operands -----------------------------------------------------------------------------------------------------


def _heads(lowering: Lowering, node: Node, index: int, count: int) -> Heads:
    """An input, by heads; an axis of heads and width is seen as two."""
    source = floats_of(lowering, node, index)
    view = steps_of(source)
    if len(source.shape) == 4:
        return Heads(source.memory, view, source.shape)
    batch, length, together = source.shape
    width = together // count
    steps = view.steps[0], width * view.steps[2], view.steps[1], view.steps[2]
    return Heads(source.memory, replace(view, steps=steps), (batch, count, length, width))


def _extended(lowering: Lowering, node: Node, index: int, new: Heads, result: Value) -> Heads:
    """The past of keys or values, and what is new behind it, in the output for it."""
    past = floats_of(lowering, node, index)
    target = lowering.delivered_room(result, natural(4))
    behind = target.view.start + past.shape[LENGTH] * target.view.steps[LENGTH]
    for part, start in ((Heads(past.memory, steps_of(past), past.shape), target.view.start), (new, behind)):
        kernel = strided_copy(part.shape, part.view, replace(target.view, start=start))
        lowering.emit(kernel, {"source": part.memory, "result": target.memory}, [node.name or ""])
    return Heads(target.memory, target.view, target.shape)


def _decodes(lowering: Lowering, query: Heads, key: Heads, value: Heads) -> bool:
    """Whether there is one query, whose keys and values are read where they lie, in whole vectors along their width."""
    operands = (query, key, value)
    whole = all(each.shape[WIDTH] % lowering.isa.lanes == 0 and each.view.steps[WIDTH] == 1 for each in operands)
    return query.shape[LENGTH] == 1 and whole


def _transposed(lowering: Lowering, key: Heads) -> Heads:
    """Keys in vectors along their length, each vector whole."""
    lanes = lowering.isa.lanes
    rows = [step for axis, step in enumerate(key.view.steps) if axis != LENGTH and key.shape[axis] > 1]
    if key.view.steps[LENGTH] == 1 and not any(step % lanes for step in rows) and isinstance(key.memory, Buffer):
        return key
    batch, heads, length, width = key.shape
    plane = Plane(length, heads, width, whole_vectors(length, lanes))
    view = view_of(key.shape, TRANSPOSED, plane)
    target = Heads(Buffer(plane, images=batch), view, key.shape)
    lowering.emit(strided_copy(key.shape, key.view, view), {"source": key.memory, "result": target.memory})
    return target


def _mask(lowering: Lowering, node: Node, shape: Sequence[int]) -> Heads | None:
    """What is added to the scores, spread over them."""
    if input_of(node, MASK) is None:
        return None
    source = lowering.read(node, MASK)
    in_vectors = source.order[-1] == len(source.shape) - 1 or source.shape[-1] == 1
    if not in_vectors or isinstance(source.memory, CallerTensor):
        source = copied(lowering, source, natural(len(source.shape)), source.plane.dtype)
    return Heads(source.memory, spread(source, shape), tuple(shape))


def _constant_edge(node: Node, queries: int, keys: int) -> int | None:
    """How many keys the first query sees beside that of its own place, where a constant mask is that of causal
    attention and nothing else.
    """
    mask = constant(input_of(node, MASK))
    queries, keys = int(queries), int(keys)  # a constant is that of the largest sizes, and others begin as it does
    if mask is None or mask.shape[-2:] != (queries, keys):
        return None
    seen = mask if mask.dtype == bool else mask > HIDDEN
    edge = int(np.count_nonzero(seen.reshape(-1, keys)[0])) - 1
    causal = np.arange(keys) <= np.arange(queries)[:, None] + edge
    is_causal = edge >= 0 and np.array_equal(np.broadcast_to(causal, seen.shape), seen)
    return edge if is_causal and (mask.dtype == bool or not np.any(mask[seen])) else None


def _result(lowering: Lowering, node: Node, sizes: AttentionSizes) -> tuple[StoredValue, Epilogue]:
    """Room for the result, position by position and without gaps, and the way to its codes."""
    value = node.outputs[0]
    merged = len(shape_of(value)) == 3
    order = natural(3) if merged else BY_POSITION
    stride = sizes.value_width * (sizes.heads if merged else 1)
    target = lowering.room(value, lowering.wanted(value), order, stride)
    epilogue = Epilogue()
    epilogue.into(target.unit)
    return target, epilogue


RULES: Mapping[str, Rule] = MappingProxyType({"Attention": _attention})
"""Rules by operator."""
