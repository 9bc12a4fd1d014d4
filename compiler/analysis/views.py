"""A node with the shapes and sizes of what it reads and writes: what the operator table's rules start from."""

from __future__ import annotations

import math
from collections.abc import Mapping

from graphpress.ir import DataType, Dims, Node, NodeView, Value, constant, is_constant, is_standard, static_shape
from graphpress.ops import lookup

ASSUMED_BYTES = 4
"""Bytes of an element whose type is not known."""

_SMALL_INTEGERS = frozenset(DataType[name] for name in ("INT8", "UINT8", "INT4", "UINT4"))

_GRID_OPERATORS = ("QuantizeLinear", "DequantizeLinear")


def view_of(node: Node, shapes: Mapping[str, Dims]) -> NodeView:
    """The node with the shapes of what it reads and writes, None for what is absent or unknown."""
    return NodeView.of(
        node,
        input_shapes=tuple(None if value is None else shape_of(value, shapes) for value in node.inputs),
        output_shapes=tuple(shape_of(value, shapes) for value in node.outputs),
    )


def shape_of(value: Value, shapes: Mapping[str, Dims]) -> Dims | None:
    """The static shape of a value: from ``shapes``, else from its constant, else as declared without symbols."""
    known = shapes.get(value.name or "")
    if known is not None:
        return known
    if value.producer() is not None and is_constant(value):
        array = constant(value)
        return None if array is None else tuple(array.shape)
    return static_shape(value)


def dtype_of(value: Value) -> DataType | None:
    """The element type of a value, read off the constant where it is not declared; None when unknown."""
    if value.dtype is not None or value.producer() is None or not is_constant(value):
        return value.dtype
    array = constant(value)
    return None if array is None or array.dtype.kind not in "biufcV" else DataType.from_numpy(array.dtype)


def bytes_of(value: Value, shapes: Mapping[str, Dims]) -> int | None:
    """Size of a value in bytes, None where its shape is unknown."""
    shape = shape_of(value, shapes)
    if shape is None:
        return None
    dtype = dtype_of(value)
    bits = 8 * ASSUMED_BYTES if dtype is None or dtype.is_string() else dtype.bitwidth
    return math.ceil(math.prod(shape) * bits / 8)


def is_weight(node: Node, index: int, value: Value) -> bool:
    """Whether a constant is a weight where this node reads it.

    Floats are, integers in the place of a weight or bias, and those of eight bits and less that are cast or moved, as
    weights are that somebody dequantizes by hand; scales and zero-points of a grid are not.
    """
    if is_standard(node, *_GRID_OPERATORS):
        return index == 0
    spec = lookup(node.op_type, node.domain)
    if spec is not None and index in (spec.quantization.weight, spec.quantization.bias):
        return True
    dtype = dtype_of(value)
    if dtype in _SMALL_INTEGERS:
        return is_standard(node, "Cast") or (spec is not None and spec.quantization.moves_data and not index)
    return dtype is not None and dtype.is_floating_point()
