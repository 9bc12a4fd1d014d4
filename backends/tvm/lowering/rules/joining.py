"""Concat: parts that lie beside each other are a view; each other part is copied to where it begins, unless it was
computed there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.moving import move, sliced_view
from graphpress.backends.tvm.lowering.operands import last
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.program import Constant
from graphpress.ir import Node, NodeView


def _concat(node: Node, lowering: Lowering) -> None:
    result = node.outputs[0]
    axis, encoding = NodeView.of(node).axis(0, len(shape_of(result))), lowering.wanted(result)
    order = lowering.begun(result, encoding)
    if order is None:
        sources = [lowering.moved(node, index)[0] for index in range(len(node.inputs))]
        plane, first = _beside(sources, axis), sources[0]
        if plane is not None and first.codes == lowering.codes(result, encoding):
            lowering.bind(result, encoding, first.order, first.memory, plane)
            return
        given = next((source for source in sources if not isinstance(source.memory, Constant)), first).order
        order = last(given, axis) if axis else given
    target, begin = lowering.room(result, encoding, order), 0
    for index, value in enumerate(node.inputs):
        assert value is not None
        part = sliced_view(target.view, axis, begin, 1)
        if not any(
            form.memory is target.memory and form.view == part for form in lowering.forms.get(value, {}).values()
        ):
            source = lowering.moved(node, index)[0]
            move(lowering, node, source, (source.view, part), source.shape, target)
        begin += shape_of(value)[axis]


def _beside(sources: Sequence[StoredValue], axis: int) -> Plane | None:
    """The layout of values that follow each other in one memory, along its fastest axis; None where they do not."""
    first = sources[0]
    begin = first.plane.start
    for source in sources:
        alike = (source.memory, source.codes, source.order) == (first.memory, first.codes, first.order)
        same = replace(source.plane, start=0, channels=1) == replace(first.plane, start=0, channels=1)
        if not alike or not same or source.plane.start != begin or source.order[-1] != axis:
            return None
        begin += source.plane.channels
    return replace(first.plane, channels=begin - first.plane.start)


RULES: Mapping[str, Rule] = MappingProxyType({"Concat": _concat})
"""Rules by operator."""
