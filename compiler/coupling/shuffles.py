"""Channel shuffles as what they are, a permutation of one axis, so that any of its positions can go.

    Reshape(Transpose(Reshape(x)))  =  Gather(x, indices, axis)

where one axis is split, its parts change places, and are merged again. In the first form positions are rows and columns
of a table: only whole rows, or the same columns of every row, can go. A Gather takes as long in ONNX Runtime.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.ir import (
    Editor,
    Model,
    Node,
    SymbolicDim,
    Value,
    has_one_use,
    input_of,
    ints_attribute,
    is_standard,
    producer,
)
from graphpress.ir.encoding import is_annotated, is_encoded

_Dims = Sequence[int | SymbolicDim]


@dataclass(frozen=True)
class _Shuffle:
    """A permutation: position ``i`` of the result's axis is position ``indices[i]`` of the data's."""

    data: Value
    axis: int
    indices: np.ndarray


def shuffles_to_gathers(model: Model) -> int:
    """Write the channel shuffles of the main graph as Gather, in place.

    Left alone: shuffles with inner results that others read, and those whose sizes are not known well enough to be sure
    that no other axis takes part.

    Returns:
        How many there were.
    """
    edit, count = Editor(model), 0
    for node in list(model.graph):
        shuffle = _shuffle_at(node)
        if shuffle is None:
            continue
        stem = f"{node.name or 'shuffle'}_indices"
        indices = edit.add_constant_for(node, shuffle.indices, stem)
        gather = edit.add_node("Gather", [shuffle.data, indices], {"axis": shuffle.axis}, before=node)
        edit.replace(node.outputs[0], gather.outputs[0])
        _remove_unread(edit, node)
        count += 1
    return count


def _remove_unread(edit: Editor, node: Node) -> None:
    """Remove the three nodes, the last first."""
    for link in (node, *_chain_above(node)):
        edit.remove(link)


def _chain_above(node: Node) -> list[Node]:
    """The Transpose and the Reshape ahead of a Reshape, each read by the next alone; empty where there are none."""
    chain: list[Node] = []
    for op_type in ("Transpose", "Reshape"):
        value = input_of(chain[-1] if chain else node, 0)
        above = producer(value, op_type)
        if value is None or above is None or not has_one_use(value) or is_encoded(value) or is_annotated(above):
            return []
        chain.append(above)
    return chain


def _shuffle_at(node: Node) -> _Shuffle | None:
    """The shuffle that ends in this node."""
    if not is_standard(node, "Reshape") or is_annotated(node) or node.outputs[0].is_graph_output():
        return None
    chain = _chain_above(node)
    data = input_of(chain[-1], 0) if chain else None
    if data is None:
        return None
    before, table, after = (_dims(value) for value in (data, chain[-1].outputs[0], node.outputs[0]))
    order = ints_attribute(chain[0], "perm") or tuple(reversed(range(len(table))))
    if not _same_but_one(before, after):
        return None
    for axis, first, parts in _segments(before, table, order):
        if after[axis] == before[axis]:
            inner = [place - first for place in order[first : first + len(parts)]]
            indices = np.arange(math.prod(parts)).reshape(parts).transpose(inner)
            return _Shuffle(data, axis, indices.reshape(-1).copy())
    return None


def _segments(before: _Dims, table: _Dims, order: Sequence[int]) -> Iterator[tuple[int, int, list[int]]]:
    """An axis of the data, and the begin and sizes of the run in the table that it was split into; all that moves lies
    in that run.
    """
    moved = [place for place, source in enumerate(order) if place != source]
    for first in range(moved[0] + 1 if moved else 0):
        for last in range(moved[-1] + 1, len(table) + 1):
            parts = _numbers(table[first:last])
            for axis, size in enumerate(before):
                beside = ((before[:axis], table[:first]), (before[axis + 1 :], table[last:]))
                if parts is not None and size == math.prod(parts) and any(_as_many(*pair) for pair in beside):
                    yield axis, first, parts


def _dims(value: Value) -> _Dims:
    return () if value.shape is None else tuple(value.shape)


def _numbers(dims: _Dims) -> list[int] | None:
    """The sizes; None where one is not known."""
    numbers = [dim for dim in dims if isinstance(dim, int)]
    return numbers if len(numbers) == len(dims) else None


def _as_many(left: _Dims, right: _Dims) -> bool:
    """Whether both have as many elements for certain; what lies on the other side of the axis then has, too."""
    known = _numbers(left), _numbers(right)
    if known[0] is not None and known[1] is not None:
        return math.prod(known[0]) == math.prod(known[1])
    return len(left) == len(right) and all(map(_equal, left, right))


def _same_but_one(before: _Dims, after: _Dims) -> bool:
    """Whether two shapes of as many elements are the same: at most one size is not known to be, and follows."""
    return len(before) == len(after) and sum(not _equal(*pair) for pair in zip(before, after, strict=True)) <= 1


def _equal(left: int | SymbolicDim, right: int | SymbolicDim) -> bool:
    if isinstance(left, int) or isinstance(right, int):
        return left == right
    return left.value is not None and left.value == right.value
