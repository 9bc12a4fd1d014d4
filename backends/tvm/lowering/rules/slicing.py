"""Slice and Split: parts of the same memory where the layout allows it, else copies."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from graphpress.backends.tvm.codegen.extent import Extent
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.layout import Order
from graphpress.backends.tvm.lowering.moving import move, sliced_view
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.ir import Node, NodeView, Value, normalize_axis
from graphpress.ir.encoding import Encoding
from graphpress.ops.semantics.slices import sliced


class Taken(NamedTuple):
    """What is taken of an axis.

    Args:
        axis: counted from the front.
        first: the first element.
        extent: elements.
        step: from one to the next.
    """

    axis: int
    first: int
    extent: int
    step: int


def _slice(node: Node, lowering: Lowering) -> None:
    """Raises UnsupportedError: its bounds are computed at run time."""
    value, result = node.inputs[0], node.outputs[0]
    assert value is not None
    view, shape, after = NodeView.of(node), shape_of(value), shape_of(result)
    starts, ends = view.integers("starts", 1), view.integers("ends", 2)
    if starts is None or ends is None:
        raise refused(node, "its bounds are computed at run time")
    axes = view.integers("axes", 3) or tuple(range(len(starts)))
    strides = view.integers("steps", 4) or (1,) * len(starts)
    taken = []
    for given, start, end, step in zip(axes, starts, ends, strides, strict=True):
        axis = normalize_axis(given, len(shape))
        taken.append(Taken(axis, sliced(start, end, step, shape[axis]).start, after[axis], step))
    source, encoding = lowering.moved(node)
    _take(node, lowering, result, (source, encoding), taken)


def _split(node: Node, lowering: Lowering) -> None:
    """Each result is a part of an axis."""
    value = node.inputs[0]
    assert value is not None
    axis, first = NodeView.of(node).axis(0, len(shape_of(value))), 0
    source, encoding = lowering.moved(node)
    for result in node.outputs:
        count = shape_of(result)[axis]
        if result.uses() or result.is_graph_output():
            _take(node, lowering, result, (source, encoding), [Taken(axis, first, count, 1)])
        first += count


def _take(
    node: Node, lowering: Lowering, result: Value, form: tuple[StoredValue, Encoding | None], taken: list[Taken]
) -> None:
    source, encoding = form
    plane: Plane | None = source.plane
    for part in taken:
        plane = None if plane is None else _part_of(plane, source.order, part)
    if plane is not None:
        lowering.bind(result, encoding, source.order, source.memory, plane)
        return
    view = source.view
    for part in taken:
        view = sliced_view(view, part.axis, part.first, part.step)
    target = lowering.room(result, lowering.wanted(result), source.order)
    move(lowering, node, source, (view, target.view), target.shape, target)


def _part_of(plane: Plane, order: Order, part: Taken) -> Plane | None:
    """The layout of what is taken, in place; None where images are taken, channels that lie apart, or the last place of
    an open axis.
    """
    place = len(order) - 1 - order.index(part.axis)
    if isinstance(part.first, Extent):  # which a plane's start cannot be
        return None
    if place == 0:
        return plane.part(part.first, part.extent) if part.step == 1 or part.extent == 1 else None
    if part.step < 1:
        return None
    if place == 1:
        return plane.area(0, part.first, plane.height, part.extent, (1, part.step))
    return plane.area(part.first, 0, part.extent, plane.width, (part.step, 1)) if place == 2 else None


RULES: Mapping[str, Rule] = MappingProxyType({"Slice": _slice, "Split": _split})
"""Rules by operator."""
