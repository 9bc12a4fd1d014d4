"""Which values are computed where they will be joined: parts of the memory of a Concat's result.

Decided for the whole graph, before there is any memory. A value that several nodes join belongs to the largest of the
results; those that hold the first of its parts are views of it, as in dense blocks, where each layer reads all before
it. What is split and joined again, in order, is one part.

A kernel writes whole vectors: a part begins where nothing of the part before it is written any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from graphpress.backends.tvm.kernels.plane import whole_vectors
from graphpress.ir import Graph, Node, NodeView, Value, int_attribute, is_constant, is_standard, static_shape


class JoinedPart(NamedTuple):
    """A part of a result.

    Args:
        node: that joins.
        inputs: the indices of its inputs that the part is: several where it is split before.
        axis: counted from the front.
        first: where the part begins along the axis.
        room: elements from there to the next part; None for the last part.
    """

    node: Node
    inputs: range
    axis: int
    first: int
    room: int | None

    @property
    def whole(self) -> Value:
        """The result."""
        return self.node.outputs[0]

    def holds(self, lanes: int) -> bool:
        """Whether a kernel that writes vectors of so many lanes writes nothing but the part, and gaps behind it."""
        if self.room is not None:
            return self.room % lanes == 0
        total = _shape(self.whole)[self.axis]
        return self.first + whole_vectors(total - self.first, lanes) <= whole_vectors(total, lanes)


def placements(graph: Graph) -> dict[Value, JoinedPart]:
    """The place of each value that is joined; it may be computed there, if form and order agree then."""
    joins = [node for node in graph if is_standard(node, "Concat") and _is_known(node)]
    result: dict[Value, JoinedPart] = {}
    for node in sorted(joins, key=lambda node: -math.prod(_shape(node.outputs[0]))):
        for value, place in _parts(node):
            result.setdefault(value, place)
    return result


def _is_known(node: Node) -> bool:
    """Whether all shapes are."""
    return all(value is not None and static_shape(value) is not None for value in (*node.inputs, *node.outputs))


def _shape(value: Value | None) -> tuple[int, ...]:
    shape = static_shape(value)
    assert shape is not None
    return shape


def _parts(node: Node) -> Iterator[tuple[Value, JoinedPart]]:
    """What is joined, and what is split into some of that."""
    axis, first = NodeView.of(node).axis(0, len(_shape(node.outputs[0]))), 0
    for index, value in enumerate(node.inputs):
        assert value is not None
        for whole, count in ((value, 1), _split(node.inputs[index:], axis)):
            if whole is not None and not is_constant(whole):
                inputs = range(index, index + count)
                room = None if inputs.stop == len(node.inputs) else _shape(whole)[axis]
                yield whole, JoinedPart(node, inputs, axis, first, room)
        first += _shape(value)[axis]


def _split(values: Sequence[Value | None], axis: int) -> tuple[Value | None, int]:
    """What is split along an axis into the first of some values, and into how many; None where that is not so."""
    value = values[0]
    split = None if value is None else value.producer()
    if split is None or not is_standard(split, "Split") or int_attribute(split, "axis", 0) != axis:
        return None, 0
    results = split.outputs
    return (split.inputs[0], len(results)) if list(values[: len(results)]) == list(results) else (None, 0)
