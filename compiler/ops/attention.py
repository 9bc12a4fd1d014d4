"""Attention and rotary embedding: heads, head width and the width of values are axes like any other.

A tensor [batch, sequence, heads × width] is split into heads and width, which gives a product constraint. Query and
key share heads and width (they are contracted); values have a width of their own. With grouped queries, one head of
keys and values goes with a run of query heads.

Where positions of the width go, the attribute ``scale`` is written: its default is computed from the width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphpress.ir import NodeView
from graphpress.ops.dependency import Axes, Axis
from graphpress.ops.rules import pin_all, same
from graphpress.ops.shrink import Mask, Shrink, count_blocks
from graphpress.ops.spec import Flow, OpSpec, Work

_SOFTMAX = 10
_ROTATION = 6


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "Attention": OpSpec(_attention, _attention_cost, shrink=_fewer_heads),
        "RotaryEmbedding": OpSpec(_rotary, _rotary_cost, shrink=_narrower_rotation),
    }


def _attention(flow: Flow) -> Sequence[Axes | None]:
    query = _heads(flow, 0, "q_num_heads")
    key, value = _heads(flow, 1, "kv_num_heads"), _heads(flow, 2, "kv_num_heads")
    classes = flow.classes
    for first, second in ((query[0], key[0]), (query[0], value[0]), (key[1], value[1]), (query[3], key[3])):
        classes.unite(first, second)
    for sequence in (query[2], key[2], value[2]):
        flow.pin(sequence, "a sequence axis")
    if len(query[1]) == len(key[1]):
        classes.unite(query[1], key[1])
    else:
        group, _ = classes.split(query[1], len(key[1]), len(query[1]) // len(key[1]))
        classes.unite(group, key[1])
    _join_mask_and_past(flow, query, key, value)
    return _attention_results(flow, query, key, value)


def _heads(flow: Flow, index: int, attribute: str) -> tuple[Axis, Axis, Axis, Axis]:
    """Batch, heads, sequence and width of an operand in either layout."""
    axes = flow.of(index)
    if len(axes) == 4:
        return axes[0], axes[1], axes[2], axes[3]
    count = flow.node.integer(attribute, 1)
    heads, width = flow.classes.split(axes[2], count, len(axes[2]) // count)
    return axes[0], heads, axes[1], width


def _join_mask_and_past(flow: Flow, query: Axes, key: Axes, value: Axes) -> None:
    if flow.node.has(3):
        for axis, head in zip(reversed(flow.of(3)), (None, None, query[1], query[0]), strict=False):
            if head is None:
                flow.pin(axis, "a sequence axis")
            elif len(axis) == len(head):
                flow.classes.unite(axis, head)
    for index, present in ((4, key), (5, value)):
        if flow.node.has(index):
            past = flow.of(index)
            flow.pin(past[2], "a sequence axis")
            for place in (0, 1, 3):
                flow.classes.unite(past[place], present[place])


def _attention_results(flow: Flow, query: Axes, key: Axes, value: Axes) -> Sequence[Axes | None]:
    shape = flow.node.output_shape()
    flat = (query[0], query[2], flow.classes.merge(query[1], value[3])) if len(shape) == 3 else None
    results: list[Axes | None] = [flat or (query[0], query[1], query[2], value[3])]
    for index, present in ((1, key), (2, value)):
        if index < len(flow.node.output_shapes):
            length = flow.node.output_shapes[index]
            past = flow.fixed([0 if length is None else length[2]], "a sequence axis")
            results.append(None if length is None else (present[0], present[1], *past, present[3]))
    if len(flow.node.output_shapes) > 3:
        scores = flow.node.output_shapes[3]
        results.append(None if scores is None else (query[0], query[1], *flow.fixed(scores[2:], "a sequence axis")))
    return results


def _fewer_heads(shrink: Shrink) -> None:
    """Heads are counted where they lie inside the width; the default scale stays that of the width before."""
    widths = [shrink.node.input_shape(0)[-1]]
    for name, index in (("q_num_heads", 0), ("kv_num_heads", 1)):
        if len(shrink.node.input_shape(index)) == 3:
            heads = shrink.node.integer(name, 1)
            shrink.set_attributes(**{name: count_blocks(shrink.read(index, 2), heads)})
            if index == 0:
                widths.append(widths[0] // heads)
    if "scale" not in shrink.node.attributes:
        shrink.set_attributes(scale=1.0 / math.sqrt(widths[-1]))


def _attention_cost(node: NodeView) -> Work:
    """Scores and their product with the values; masks that skip work are not taken into account."""
    query, key, value = node.input_shape(0), node.input_shape(1), node.input_shape(2)
    heads = query[1] if len(query) == 4 else node.integer("q_num_heads", 1)
    pairs = query[0] * heads * query[-2] * _keys(node, key)
    head_width = query[-1] if len(query) == 4 else query[-1] // heads
    value_width = value[-1] if len(value) == 4 else value[-1] // node.integer("kv_num_heads", 1)
    return Work(pairs * (head_width + value_width), _SOFTMAX * pairs)


def _keys(node: NodeView, key: Sequence[int]) -> int:
    past = node.input_shapes[4] if len(node.input_shapes) > 4 else None
    return key[-2] + (past[2] if past is not None else 0)


def _rotary(flow: Flow) -> Sequence[Axes | None]:
    """Position j of a head's width is rotated with j + width/2 (or 2j with 2j + 1): the pair stays together."""
    axes = flow.of(0)
    heads = len(axes[1]) if len(axes) == 4 else flow.node.integer("num_heads", 0)
    if not heads or flow.node.integer("rotary_embedding_dim", 0) not in (
        0,
        len(axes[-1]) // (1 if len(axes) == 4 else heads),
    ):
        return pin_all(flow, "a partly rotated width")
    if len(axes) == 4:
        _rotate(flow, axes[3])
    else:
        _rotate(flow, flow.classes.split(axes[2], heads, len(axes[2]) // heads)[1])
    return same(flow)


def _rotary_cost(node: NodeView) -> Work:
    return Work(operations=_ROTATION * math.prod(node.input_shape(0)))


def _narrower_rotation(shrink: Shrink) -> None:
    mask, heads = shrink.read(0, -1), shrink.node.integer("num_heads", 0)
    if len(shrink.node.input_shape(0)) == 3:
        shrink.set_attributes(num_heads=count_blocks(mask, heads))
        mask = _first_block(mask, heads)
    if shrink.node.integer("rotary_embedding_dim", 0):
        shrink.set_attributes(rotary_embedding_dim=int(mask.sum()))


def _first_block(mask: Mask, blocks: int) -> Mask:
    table = mask.reshape(blocks, -1)
    return np.asarray(table[table.any(axis=1)][0])


def _rotate(flow: Flow, width: Axis) -> None:
    half = len(width) // 2
    first, second = (width[0::2], width[1::2]) if flow.node.integer("interleaved", 0) else (width[:half], width[half:])
    flow.classes.unite(first, second)
    for cache in (flow.of(1), flow.of(2)):
        flow.classes.unite(cache[-1], first)
        for axis in cache[:-1]:
            flow.pin(axis, "a position axis")
