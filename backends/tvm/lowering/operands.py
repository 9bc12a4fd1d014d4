"""Activations as kernels of products, rows and heads read them: floats, at steps, along vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue
from graphpress.backends.tvm.lowering.layout import Order, images_of, plane_of
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.program import Buffer, Constant
from graphpress.ir import Node


def floats_of(lowering: Lowering, node: Node, index: int, order: Order | None = None) -> StoredValue:
    """An input as floats; what the node reads in codes has been rounded to them.

    Args:
        lowering: the program.
        node: that reads it.
        index: of the input.
        order: of its axes; None takes what there is.

    Raises:
        UnsupportedError: its numbers are of another type.
    """
    source = lowering.read(node, index, order)
    if source.codes is None and source.plane.dtype != FLOAT:
        raise refused(node, f"its numbers are {source.plane.dtype}, no float32")
    return source if source.plane.dtype == FLOAT else copied(lowering, source, source.order)


def along(lowering: Lowering, node: Node, index: int, axis: int) -> StoredValue:
    """An input as floats in vectors along an axis, which may be read to the end of the last vector.

    Args:
        lowering: the program.
        node: that reads it.
        index: of the input.
        axis: of the value, from the front.
    """
    source = floats_of(lowering, node, index)
    is_ready = source.order[-1] == axis and source.plane.stride % lowering.isa.lanes == 0
    if is_ready and isinstance(source.memory, Buffer):
        return source
    return copied(lowering, source, last(source.order, axis))


def copied(lowering: Lowering, source: StoredValue, order: Order, dtype: str = FLOAT) -> StoredValue:
    """A copy of a value in whole vectors, which nobody else reads.

    Args:
        lowering: the program.
        source: the value.
        order: of the copy's axes.
        dtype: what codes become, or the type that elements of no code have anyway.
    """
    plane = replace(plane_of(source.shape, order, lowering.isa.lanes), dtype=dtype)
    images = images_of(source.shape, order)
    target = StoredValue(Buffer(plane, images=images), None, order, source.shape, plane)
    lowering.copy(source, target)
    return target


def last(order: Order, axis: int) -> Order:
    """An order with an axis as the fastest, the others as they were."""
    return (*(other for other in order if other != axis), axis)


def steps_of(source: StoredValue) -> StridedView:
    """Where the elements of a value lie; all samples of a batch share a constant."""
    return replace(source.view, size=0) if isinstance(source.memory, Constant) else source.view


def spread(source: StoredValue, shape: Sequence[int]) -> StridedView:
    """Where the elements of a value lie that is broadcast to a shape.

    Args:
        source: the value.
        shape: of at least as many axes.
    """
    view, missing = steps_of(source), len(shape) - len(source.shape)
    steps = (0 if extent == 1 else step for extent, step in zip(source.shape, view.steps, strict=True))
    return replace(view, steps=(*(0,) * missing, *steps))
