"""Operands that are spread over another value: in the order of its axes, those that they lack being of size 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphpress.backends.tvm.kernels.strided import strided_copy
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.layout import Order, images_of, natural, plane_of
from graphpress.backends.tvm.lowering.operands import spread
from graphpress.backends.tvm.program import Buffer, CallerTensor, Constant
from graphpress.ir import Node, Value, constant, is_constant
from graphpress.ir.encoding import Encoding, read_encoding, round_trip

Extents = tuple[int, ...]


def spread_operand(lowering: Lowering, node: Node, index: int, shape: Extents, order: Order) -> StoredValue:
    """An operand as a stage reads it beside a value.

    Args:
        lowering: the program.
        node: that reads it.
        index: of the operand.
        shape: of the value.
        order: of the value's axes.
    """
    value = node.inputs[index]
    assert value is not None
    if is_constant(value):
        return _constant(lowering, value, read_encoding(node, index), shape, order)
    given = shape_of(value)
    if len(given) == len(shape) and images_of(given, order) == images_of(shape, order):
        operand = lowering.read(node, index, order)
        whole = not isinstance(operand.memory, CallerTensor) or operand.plane.channels % lowering.isa.lanes == 0
        if whole or operand.plane.channels == 1:
            return operand
    return _copied(lowering, lowering.read(node, index), shape, order)


def _full(given: Extents, shape: Extents) -> Extents:
    """A shape with as many axes as another."""
    return (*(1,) * (len(shape) - len(given)), *given)


def _constant(lowering: Lowering, value: Value, encoding: Encoding | None, shape: Extents, order: Order) -> StoredValue:
    array = constant(value)
    assert array is not None
    numbers = array.astype(np.float32)
    return spread_numbers(lowering, numbers if encoding is None else round_trip(numbers, encoding), shape, order)


def spread_numbers(lowering: Lowering, numbers: np.ndarray, shape: Extents, order: Order) -> StoredValue:
    """Constant numbers as a stage reads them beside a value of a shape, whose axes lie in an order."""
    full = _full(numbers.shape, shape)
    plane = plane_of(full, order, 1 if full[order[-1]] == 1 else lowering.isa.lanes)
    laid = numbers.reshape(full).transpose(order)
    gap = [(0, 0)] * (laid.ndim - 1) + [(0, plane.stride - plane.channels)]
    memory = Constant(np.ascontiguousarray(np.pad(laid, gap)).reshape(-1), plane.shared(), images_of(full, order))
    if memory.images == 1:
        return StoredValue(memory, None, order, full, plane.shared())
    return _copied(lowering, StoredValue(memory, None, order, full, plane), shape, order)


def _copied(lowering: Lowering, source: StoredValue, shape: Extents, order: Order) -> StoredValue:
    """A copy in the order of the value: as large as it is, or of the size of the operand where images agree."""
    full = _full(source.shape, shape)
    return _spread_copy(lowering, source, full if images_of(full, order) == images_of(shape, order) else shape, order)


def spread_whole(lowering: Lowering, source: StoredValue, shape: Extents) -> StoredValue:
    """A copy of an operand as large as the value over which it is spread, in the standard's order."""
    return _spread_copy(lowering, source, shape, natural(len(shape)))


def _spread_copy(lowering: Lowering, source: StoredValue, extents: Extents, order: Order) -> StoredValue:
    plane = replace(plane_of(extents, order, lowering.isa.lanes), dtype=source.plane.dtype)
    memory = Buffer(plane, source.zero_point, images=images_of(extents, order))
    target = StoredValue(memory, source.codes, order, extents, plane)
    kernel = strided_copy(extents, spread(source, extents), target.view)
    lowering.emit(kernel, {"source": source.memory, "result": memory})
    return target
