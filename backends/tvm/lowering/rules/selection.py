"""TopK: the places of the largest or smallest of each row, and their numbers, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from graphpress.backends.tvm.kernels.top import TakeAlong, TopIndices
from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.layout import natural
from graphpress.backends.tvm.lowering.operands import floats_of, steps_of
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.ir import DataType, Node, NodeView

VALUES, INDICES = 0, 1


def _top(node: Node, lowering: Lowering) -> None:
    """Places first, then what lies there."""
    if node.outputs[VALUES].dtype is not DataType.FLOAT:
        raise refused(node, "its numbers are no floats")
    shape = shape_of(node.outputs[VALUES])
    view = NodeView.of(node)
    axis = view.axis(-1, len(shape))
    leading = (*shape[:axis], *shape[axis + 1 :])
    source = floats_of(lowering, node, 0)
    order = natural(len(shape))
    values, indices = (lowering.room(node.outputs[index], None, order) for index in (VALUES, INDICES))
    rows, places = _rows(steps_of(source), axis), _rows(indices.view, axis)
    extent, count, largest = source.shape[axis], shape[axis], bool(view.integer("largest", 1))
    top = TopIndices(rows, places, leading, extent, count, largest)
    lowering.emit(top, {"source": source.memory, "result": indices.memory}, [node.name or ""])
    take = TakeAlong(rows, places, _rows(values.view, axis), leading, count)
    operands = {"source": source.memory, "indices": indices.memory, "result": values.memory}
    lowering.emit(take, operands, [node.name or ""])


def _rows(view: StridedView, axis: int) -> StridedView:
    """A view with an axis as the last."""
    steps = view.steps
    return replace(view, steps=(*steps[:axis], *steps[axis + 1 :], steps[axis]))


RULES: Mapping[str, Rule] = MappingProxyType({"TopK": _top})
"""Rules by operator."""
