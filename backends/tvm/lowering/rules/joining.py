"""Concat: each part is copied to where it begins, unless it was computed there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.moving import move, sliced_view
from graphpress.backends.tvm.lowering.operands import last
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.ir import Node, NodeView, is_constant


def _concat(node: Node, lowering: Lowering) -> None:
    result = node.outputs[0]
    axis = NodeView.of(node).axis(0, len(shape_of(result)))
    first = next((index for index, value in enumerate(node.inputs) if value is not None and not is_constant(value)), 0)
    rest = lowering.read(node, first).order
    target = lowering.room(result, lowering.wanted(result), last(rest, axis) if axis else rest)
    begin = 0
    for index in range(len(node.inputs)):
        source = lowering.read(node, index)
        part = sliced_view(target.view, axis, begin, 1)
        move(lowering, node, source, (source.view, part), source.shape, target)
        begin += source.shape[axis]


RULES: Mapping[str, Rule] = MappingProxyType({"Concat": _concat})
"""Rules by operator."""
