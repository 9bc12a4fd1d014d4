"""Fuse scaled dot-product attention that is spelt out into one operator.

    softmax(s·Q·Kᵀ + M)·V = Attention(Q, K, V, M, scale=s)

Q, K and V are [batch, heads, length, size], or [batch, length, size] of a single head. The scale may stand at Q, at K
or at their product; the mask M may be missing, and a mask with one row for all queries is expanded. K is found behind
the transposition that the product needs. Refuses before opset 23, when an inner value is read elsewhere, when K is not
transposed by an operator that can be undone, and where batch and heads might broadcast.
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
    producer,
    rank_of,
)
from graphpress.passes.cleanup._operands import permutation
from graphpress.passes.fusion._algebra import scaled
from graphpress.passes.fusion._operands import only_reader_of_type, orders, same_size, size
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
class Attention(OperatorFusion):
    """Lossless up to rounding: the matrix of weights is made and used in one go."""

    name: ClassVar[str] = "attention"
    anchors: ClassVar[tuple[str, ...]] = ("Softmax",)
    emits: ClassVar[str | None] = "Attention"
    opset: ClassVar[int] = 23

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognise the product of queries and keys ahead of the softmax, and that with the values behind it."""
        end = only_reader_of_type(node, "MatMul")
        rank = rank_of(node.inputs[0])
        if end is None or end.inputs[0] is not node.outputs[0] or rank not in (3, 4) or not _over_last(node, rank):
            return None
        nodes = [end, node]
        read = _scores(node.inputs[0], nodes)
        if read is None:
            return None
        product, mask, scale = read
        queries, by_q = scaled(product.inputs[0], nodes)
        transposed, by_k = scaled(product.inputs[1], nodes)
        keys, values = _untransposed(transposed, nodes), end.inputs[1]
        if keys is None or queries is None or values is None:
            return Refusal.at(product, "the keys are not transposed by an operator that can be undone")
        if why := _obstacle(queries, keys, values, mask, rank):
            return Refusal.at(product, why)
        heads = {"q_num_heads": 1, "kv_num_heads": 1} if rank == 3 else {}
        attributes = {"scale": scale * by_q * by_k, **heads}
        return Match(end=end, nodes=nodes, attributes=attributes, queries=queries, keys=keys, values=values, mask=mask)

    def operands(self, match: Match, edit: Editor) -> list[Value | None]:
        """Queries, keys, values and the mask, the keys transposed and the mask expanded where they must be."""
        keys, mask = _straighten(match.keys, match.end, edit), match.mask
        if mask is not None and size(mask, -2) == 1 and size(match.queries, -2) != 1:
            shape = edit.add_constant_for(match.end, np.array([size(match.queries, -2), 1]), "attention_mask_shape")
            mask = edit.add_node("Expand", [mask, shape], before=match.end).outputs[0]
        inputs = [match.queries, keys, match.values, mask]
        return inputs if mask is not None else inputs[:3]


def _over_last(softmax: Node, rank: int) -> bool:
    return int_attribute(softmax, "axis", -1) in (-1, rank - 1)


def _scores(value: Value | None, nodes: list[Node]) -> tuple[Node, Value | None, float] | None:
    """The product of queries and keys, the mask that is added to it, and the number that it is multiplied with."""
    add, mask = producer(value, "Add"), None
    if add is not None:
        readings = [(found, other) for found, other in orders(add) if _product(found, []) is not None]
        if len(readings) != 1 or not has_one_use(add.outputs[0]):
            return None
        nodes.append(add)
        value, mask = readings[0]
    found = _product(value, nodes)
    return None if found is None else (found[0], mask, found[1])


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
    shape = _keys_shape(value)
    if shape is None or not all(same_size((value, axis), (transpose.outputs[0], axis)) for axis in (-1, -2)):
        return None
    nodes += [split, transpose]
    merge = producer(transpose.inputs[0], "Reshape")
    if order is None and merge is not None and dims_of(merge.inputs[0]) == shape and merge.inputs[0] is not None:
        nodes += [merge] if has_one_use(merge.outputs[0]) else []
        return Keys(value, merge.inputs[0])
    return Keys(value, transpose.inputs[0], order, shape)


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


def _obstacle(queries: Value, keys: Keys, values: Value, mask: Value | None, rank: int) -> str | None:
    """Why the operator would not compute the same."""
    if queries.dtype not in TYPES:
        return f"attention is not defined for {queries.dtype}"
    if any(rank_of(value) != rank for value in (queries, keys.transposed, values)):
        return "queries, keys and values have different ranks"
    for axis in range(rank - 2):
        if not (same_size((queries, axis), (keys.transposed, axis)) and same_size((queries, axis), (values, axis))):
            return "batch or heads may broadcast: their sizes are not known to be equal"
    return None if mask is None else _mask_obstacle(queries, keys, mask, rank)


def _mask_obstacle(queries: Value, keys: Keys, mask: Value, rank: int) -> str | None:
    mask_rank = rank_of(mask)
    if mask_rank is None or not 2 <= mask_rank <= (4 if rank == 4 else 2):
        return "the mask has another rank than the operator takes"
    if not same_size((mask, -1), (keys.transposed, -1)):
        return "the mask is not known to be as wide as there are keys"
    rows = size(mask, -2)
    if rows != size(queries, -2) and not (rows == 1 and isinstance(size(queries, -2), int)):
        return "the mask has one row for a number of queries that is unknown"
    for axis in range(mask_rank - 2):
        if size(mask, axis) != 1 and not same_size((mask, axis), (queries, axis + 4 - mask_rank)):
            return "the mask may broadcast batch or heads"
    return None
