"""Fuse scaled dot-product attention that is written out into one operator.

    softmax(s·Q·Kᵀ + M)·V = Attention(Q, K, V, M, scale=s)

Q, K and V are [batch, heads, length, size], or [batch, length, size] of a single head; K and V of fewer heads, each of
which is repeated for several of Q, are taken as they are (grouped queries). The scale may stand at Q, at K or at their
product; the mask M may be missing. K is found behind the transposition that the product needs, and PyTorch's guard
behind the softmax, Where(IsNaN(p), 0, p), goes: the operator itself gives zero to a query that sees no key. Refuses
before opset 23, when an inner value is read elsewhere, when K is not transposed by an operator that can be undone, and
where batch and heads might broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.ir import (
    DataType,
    Editor,
    Match,
    Node,
    Refusal,
    Value,
    dims_of,
    has_one_use,
    int_attribute,
    is_standard,
    producer,
    rank_of,
    readers,
)
from graphpress.passes._operands import permutation
from graphpress.passes.fusion._algebra import scaled
from graphpress.passes.fusion._attention_mask import Mask, fitted, mask_refusal_reason, maskings
from graphpress.passes.fusion._operands import number, only_reader_of_type, same_size, size
from graphpress.passes.fusion._operator import OperatorFusion

TYPES = (DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16)


@dataclass
class Keys:
    """How to get K, [.., length, size], from where its transposed was made.

    Args:
        transposed: Kᵀ, [.., size, length].
        source: what K is made from.
        perm: the order of axes that makes K from it, None when it is in order.
        shape: the shape that it then takes, None when it has it.
    """

    transposed: Value
    source: Value
    perm: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class FuseAttention(OperatorFusion):
    """Lossless up to rounding: the matrix of weights is made and used in one go."""

    name: ClassVar[str] = "fuse_attention"
    root_ops: ClassVar[tuple[str, ...]] = ("Softmax",)
    emits: ClassVar[str | None] = "Attention"
    opset: ClassVar[int] = 23

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize the product of queries and keys ahead of the softmax, and that with the values behind it."""
        guard = _guard(node)
        weights = guard[-1] if guard else node
        end, rank = only_reader_of_type(weights, "MatMul"), rank_of(node.inputs[0])
        if end is None or end.inputs[0] is not weights.outputs[0] or rank not in (3, 4) or not _over_last(node, rank):
            return None
        nodes = [end, *guard, node]
        read = _scores(node.inputs[0], nodes)
        if read is None:
            return None
        product, mask, scale = read
        queries, by_q = scaled(product.inputs[0], nodes)
        transposed, by_k = scaled(product.inputs[1], nodes)
        keys, values = _untransposed(transposed, nodes), end.inputs[1]
        if keys is None or queries is None or values is None:
            return Refusal.at(product, "the keys are not transposed by an operator that can be undone")
        scale *= by_q * by_k
        if scale <= 0:
            return Refusal.at(product, "the scale is not positive: the operator takes its root")
        why = _refusal_reason(queries, keys, values, rank)
        if why is None and mask is not None:
            why = mask_refusal_reason(mask, queries, keys.transposed, values, guarded=bool(guard))
        if why is not None:
            return Refusal.at(product, why)
        if rank == 4:
            keys, values = _grouped(keys, values, nodes)
        heads = {"q_num_heads": 1, "kv_num_heads": 1} if rank == 3 else {}
        attributes = {"scale": scale, **heads}
        return Match(end=end, nodes=nodes, attributes=attributes, queries=queries, keys=keys, values=values, mask=mask)

    def operands(self, match: Match, edit: Editor) -> list[Value | None]:
        """Queries, keys, values and the mask, the keys transposed and the mask fitted where they must be."""
        inputs = [match.queries, _straighten(match.keys, match.end, edit), match.values]
        if match.mask is None:
            return inputs
        return [*inputs, fitted(match.mask, match.queries, match.values, match.end, edit)]


def _guard(softmax: Node) -> list[Node]:
    """The nodes that make the weights of a query zero which sees no key, as PyTorch writes them; none is as well."""
    weights = softmax.outputs[0]
    nodes = readers(weights)
    test = next((node for node in nodes if is_standard(node, "IsNaN")), None)
    choice = next((node for node in nodes if is_standard(node, "Where")), None)
    if len(nodes) != 2 or test is None or choice is None or not has_one_use(test.outputs[0]):
        return []
    is_guard = (
        choice.inputs[0] is test.outputs[0] and choice.inputs[2] is weights and number(choice.inputs[1], weights) == 0
    )
    return [test, choice] if is_guard else []


def _over_last(softmax: Node, rank: int) -> bool:
    return int_attribute(softmax, "axis", -1) in (-1, rank - 1)


def _scores(value: Value | None, nodes: list[Node]) -> tuple[Node, Mask | None, float] | None:
    """The product of queries and keys, the mask that is put on it, and the number that it is multiplied with."""
    masked = producer(value, "Add", "Where")
    mask: Mask | None = None
    if masked is not None:
        readings = [(product, other) for product, other in maskings(masked) if _product(product, []) is not None]
        if len(readings) != 1:
            return None
        nodes.append(masked)
        value, mask = readings[0]
    read = _product(value, nodes)
    return None if read is None else (read[0], mask, read[1])


def _product(value: Value | None, nodes: list[Node]) -> tuple[Node, float] | None:
    inner, scale = scaled(value, nodes)
    product = producer(inner, "MatMul")
    if product is None:
        return None
    nodes.append(product)
    return product, scale


def _untransposed(value: Value | None, nodes: list[Node]) -> Keys | None:
    """The K of which ``value`` is the transposed; batch and heads may be merged while it is transposed."""
    split = producer(value, "Reshape")
    transpose = producer(value if split is None else split.inputs[0], "Transpose")
    perm = None if transpose is None else permutation(transpose)
    if value is None or transpose is None or perm is None or transpose.inputs[0] is None:
        return None
    straight = (*perm[:-2], perm[-1], perm[-2])
    order = None if straight == tuple(range(len(perm))) else straight
    if split is None:
        nodes.append(transpose)
        return Keys(value, transpose.inputs[0], order)
    if not all(same_size((value, axis), (transpose.outputs[0], axis)) for axis in (-1, -2)):
        return None
    merge = producer(transpose.inputs[0], "Reshape")
    if order is None and merge is not None and merge.inputs[0] is not None and _is_shaped(merge.inputs[0], value):
        nodes += [split, transpose, *([merge] if has_one_use(merge.outputs[0]) else [])]
        return Keys(value, merge.inputs[0])
    shape = _keys_shape(value)
    if shape is None:
        return None
    nodes += [split, transpose]
    return Keys(value, transpose.inputs[0], order, shape)


def _is_shaped(keys: Value, transposed: Value) -> bool:
    """Whether ``keys`` has the shape of which ``transposed`` has the last two axes swapped."""
    axes = range(rank_of(transposed) or 0)
    pairs = zip(axes, [*axes[:-2], axes[-1], axes[-2]], strict=True)
    return rank_of(keys) == len(axes) and all(same_size((keys, a), (transposed, b)) for a, b in pairs)


def _keys_shape(transposed: Value) -> tuple[int, ...] | None:
    """The shape of K with at most one -1, from that of its transposed."""
    dims = dims_of(transposed)
    if dims is None or sum(dim is None for dim in dims) > 1:
        return None
    shape = [-1 if dim is None else dim for dim in dims]
    return (*shape[:-2], shape[-1], shape[-2])


def _straighten(keys: Keys, end: Node, edit: Editor) -> Value:
    """K, made by the nodes that it takes."""
    value = keys.source
    if keys.perm is not None:
        value = edit.add_node("Transpose", [value], {"perm": keys.perm}, before=end).outputs[0]
    if keys.shape is None:
        return value
    shape = edit.add_constant_for(end, np.array(keys.shape), "attention_keys_shape")
    return edit.add_node("Reshape", [value, shape], before=end).outputs[0]


def _grouped(keys: Keys, values: Value, nodes: list[Node]) -> tuple[Keys, Value]:
    """Keys and values before each of their heads is repeated for several heads of the queries, as often in both."""
    made: list[Node] = []
    source, repeated = _unrepeated(keys.source, made), _unrepeated(values, made)
    heads = size(source, 1)
    is_plain = keys.perm is None and keys.shape is None
    if source is None or repeated is None or not is_plain or not isinstance(heads, int) or heads != size(repeated, 1):
        return keys, values
    nodes += made
    return Keys(keys.transposed, source), repeated


def _unrepeated(value: Value | None, nodes: list[Node]) -> Value | None:
    """The value of which each head comes several times in a row: [b, h, l, d] made [b, h·n, l, d]."""
    merge = producer(value, "Reshape")
    expand = producer(None if merge is None else merge.inputs[0], "Expand")
    split = producer(None if expand is None else expand.inputs[0], "Unsqueeze", "Reshape")
    if value is None or merge is None or expand is None or split is None:
        return None
    source, one, several = split.inputs[0], split.outputs[0], expand.outputs[0]
    if (rank_of(source), rank_of(one), rank_of(several), rank_of(value)) != (4, 5, 5, 4):
        return None
    kept = ((0, 0, 0), (1, 1, None), (2, 3, 2), (3, 4, 3))  # axes of the source, of the repeated, of the result
    same = all(
        same_size((source, at), (one, wide))
        and same_size((source, at), (several, wide))
        and (end is None or same_size((source, at), (value, end)))
        for at, wide, end in kept
    )
    if not same or size(one, 2) != 1:
        return None
    for node in (merge, expand, split):  # what others read as well stays for them
        if not has_one_use(node.outputs[0]):
            break
        nodes.append(node)
    return source


def _refusal_reason(queries: Value, keys: Keys, values: Value, rank: int) -> str | None:
    """Why the operator would not compute the same."""
    if queries.dtype not in TYPES:
        return f"attention is not defined for {queries.dtype}"
    if any(rank_of(value) != rank for value in (queries, keys.transposed, values)):
        return "queries, keys and values have different ranks"
    for axis in range(rank - 2):
        if not (same_size((queries, axis), (keys.transposed, axis)) and same_size((queries, axis), (values, axis))):
            return "batch or heads may broadcast: their sizes are not known to be equal"
    return None
