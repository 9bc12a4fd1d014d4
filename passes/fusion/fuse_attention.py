"""Fuse scaled dot-product attention that is written out into one operator.

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
    constant,
    dims_of,
    has_one_use,
    int_attribute,
    producer,
    rank_of,
)
from graphpress.passes._operands import permutation
from graphpress.passes.fusion._algebra import scaled
from graphpress.passes.fusion._operands import number, only_reader_of_type, orders, same_size, size
from graphpress.passes.fusion._operator import OperatorFusion

HIDDEN = -1e30
"""A score so low that its weight is zero beside any other."""
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
        scale *= by_q * by_k
        if scale <= 0:
            return Refusal.at(product, "the scale is not positive: the operator takes its root")
        if why := _refusal_reason(queries, keys, values, mask, rank):
            return Refusal.at(product, why)
        heads = {"q_num_heads": 1, "kv_num_heads": 1} if rank == 3 else {}
        attributes = {"scale": scale, **heads}
        return Match(end=end, nodes=nodes, attributes=attributes, queries=queries, keys=keys, values=values, mask=mask)

    def operands(self, match: Match, edit: Editor) -> list[Value | None]:
        """Queries, keys, values and the mask, the keys transposed and the mask expanded where they must be."""
        keys, mask = _straighten(match.keys, match.end, edit), match.mask
        if isinstance(mask, np.ndarray):
            mask = edit.add_constant_for(match.end, mask, "attention_mask")
        if mask is not None and size(mask, -2) == 1 and size(match.queries, -2) != 1:
            mask = _expanded(mask, match.queries, match.end, edit)
        inputs = [match.queries, keys, match.values, mask]
        return inputs if mask is not None else inputs[:3]


def _over_last(softmax: Node, rank: int) -> bool:
    return int_attribute(softmax, "axis", -1) in (-1, rank - 1)


def _scores(value: Value | None, nodes: list[Node]) -> tuple[Node, Value | np.ndarray | None, float] | None:
    """The product of queries and keys, the mask that is put on it, and the number that it is multiplied with."""
    masked = producer(value, "Add", "Where")
    mask: Value | np.ndarray | None = None
    if masked is not None:
        readings = [(product, other) for product, other in _maskings(masked) if _product(product, []) is not None]
        if len(readings) != 1:
            return None
        nodes.append(masked)
        value, mask = readings[0]
    read = _product(value, nodes)
    return None if read is None else (read[0], mask, read[1])


def _maskings(node: Node) -> list[tuple[Value, Value | np.ndarray]]:
    """What ``node`` may mask, with what: a value that is added, or a constant choice of what softmax makes zero."""
    if node.op_type == "Add":
        return list(orders(node))
    condition, (_, yes, no) = constant(node.inputs[0]), node.inputs
    if condition is None or yes is None or no is None:
        return []
    readings = ((yes, no, condition), (no, yes, np.logical_not(condition)))
    return [
        (scores, seen)
        for scores, other, seen in readings
        if (limit := number(other, scores)) is not None and limit <= HIDDEN and seen.ndim >= 2 and seen.any(-1).all()
    ]


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


def _expanded(mask: Value, queries: Value, end: Node, edit: Editor) -> Value:
    """The mask with a row for each query."""
    rows = size(queries, -2)
    if isinstance(rows, int):
        shape = edit.add_constant_for(end, np.array([rows, 1]), "attention_mask_shape")
    else:
        length = edit.add_node("Shape", [queries], {"start": -2, "end": -1}, before=end).outputs[0]
        columns = edit.add_constant_for(end, np.array([1]), "attention_mask_columns")
        shape = edit.add_node("Concat", [length, columns], {"axis": 0}, before=end).outputs[0]
    return edit.add_node("Expand", [mask, shape], before=end).outputs[0]


def _refusal_reason(
    queries: Value, keys: Keys, values: Value, mask: Value | np.ndarray | None, rank: int
) -> str | None:
    """Why the operator would not compute the same."""
    if queries.dtype not in TYPES:
        return f"attention is not defined for {queries.dtype}"
    if any(rank_of(value) != rank for value in (queries, keys.transposed, values)):
        return "queries, keys and values have different ranks"
    for axis in range(rank - 2):
        if not (same_size((queries, axis), (keys.transposed, axis)) and same_size((queries, axis), (values, axis))):
            return "batch or heads may broadcast: their sizes are not known to be equal"
    return None if mask is None else _mask_refusal_reason(queries, keys, mask, rank)


def _sizes(mask: Value | np.ndarray) -> list[int | str | None]:
    if isinstance(mask, np.ndarray):
        return list(mask.shape)
    return [size(mask, axis) for axis in range(rank_of(mask) or 0)]


def _mask_refusal_reason(queries: Value, keys: Keys, mask: Value | np.ndarray, rank: int) -> str | None:
    sizes = _sizes(mask)
    mask_rank = len(sizes)
    if not 2 <= mask_rank <= (4 if rank == 4 else 2):
        return "the mask has another rank than the operator takes"
    if sizes[-1] is None or sizes[-1] != size(keys.transposed, -1):
        return "the mask is not known to be as wide as there are keys"
    if sizes[-2] is None or sizes[-2] not in (1, size(queries, -2)):
        return "the mask is not known to have one row, or one for each query"
    for axis, length in enumerate(sizes[:-2]):
        if length is None or length not in (1, size(queries, axis + 4 - mask_rank)):
            return "the mask may broadcast batch or heads"
    return None
