"""Copies of what lies at other steps: elements of one value, in the order in which another has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphpress.backends.tvm.kernels.strided import strided_copy
from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.lowering.context import FEW, Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.layout import Order, channels_last, natural
from graphpress.ir import Node, Value


def move(
    lowering: Lowering,
    node: Node,
    source: StoredValue,
    views: tuple[StridedView, StridedView],
    extents: Sequence[int],
    target: StoredValue,
) -> None:
    """Copy elements between two views, from the codes of the one into those of the other.

    Args:
        lowering: the program.
        node: that moves them.
        source: what is read.
        views: of the source and of the target, over the same axes.
        extents: of those axes.
        target: what is written.
    """
    epilogue = Epilogue(unit=source.unit)
    epilogue.into(target.unit)
    kernel = strided_copy(extents, *views, epilogue.stages)
    lowering.emit(kernel, {"source": source.memory, "result": target.memory}, [node.name or ""])


def moved_into_room(lowering: Lowering, node: Node, source: StoredValue, view: StridedView, order: Order) -> None:
    """The result of a node as a copy of a view that has its axes."""
    result = node.outputs[0]
    target = lowering.room(result, lowering.wanted(result), order)
    move(lowering, node, source, (view, target.view), target.shape, target)


def order_for(value: Value) -> Order:
    """In which order a value is made that may be made in any: channels last, but where they are few and nobody wants
    them so.
    """
    shape = shape_of(value)
    few = len(shape) > 2 and shape[1] < FEW and value.is_graph_output()
    return natural(len(shape)) if few else channels_last(len(shape))


def sliced_view(view: StridedView, axis: int, first: int, step: int) -> StridedView:
    """A view of every so manieth element of an axis from one on."""
    apart = view.steps[axis]
    steps = (*view.steps[:axis], apart * step, *view.steps[axis + 1 :])
    return replace(view, start=view.start + first * apart, steps=steps)
