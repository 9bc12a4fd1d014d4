"""Dequantization that somebody wrote by hand, under the name that it has:

    Mul(Cast(q), s)          =  DequantizeLinear(q, s)       q: int8 or uint8, constant
    Mul(Sub(Cast(q), z), s)  =  DequantizeLinear(q, s, z)    s: constant, one for all or one along an axis; z: one for
                                                             all, an integer of the type of q

All multiply integers by the scale in float32, so that nothing is rounded otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpress.ir.edit import Editor
from graphpress.ir.types import DataType, Graph, Model, Node, Value
from graphpress.ir.values import (
    constant,
    graphs,
    int_attribute,
    is_constant,
    is_standard,
    opset_of,
    producer,
    rank_of,
    scalar,
    static_shape,
)

_PER_AXIS_OPSET = 13

_BOUNDS = {DataType.INT8: (-128, 127), DataType.UINT8: (0, 255)}


class _Dequantization(NamedTuple):
    codes: Value
    scale: np.ndarray
    axis: int | None
    zero_point: int = 0


def spell_dequantization(model: Model) -> int:
    """Write hand-made dequantization of constants as DequantizeLinear nodes, in place.

    Returns:
        How many there were.
    """
    edit, count = Editor(model), 0
    for graph in graphs(model):
        for node in list(graph) if isinstance(graph, Graph) else ():
            made = _match(node) if is_standard(node, "Mul") and not node.outputs[0].is_graph_output() else None
            if made is not None:
                _spell(node, made, edit)
                count += 1
    return count


def _match(node: Node) -> _Dequantization | None:
    for index in (0, 1):
        (cast, zero_point), scale = _integers(node.inputs[index]), constant(node.inputs[1 - index])
        codes = None if cast is None else cast.inputs[0]
        shape = static_shape(codes)
        if codes is None or not is_constant(codes) or scale is None or shape is None:
            continue
        axis = _axis_of(scale, shape)
        is_sound = scale.dtype == np.float32 and bool(np.all(np.isfinite(scale) & (scale > 0)))
        is_on_grid = codes.dtype in _BOUNDS and _BOUNDS[codes.dtype][0] <= zero_point <= _BOUNDS[codes.dtype][1]
        if is_sound and is_on_grid and axis is not None and (axis < 0 or (opset_of(node) or 0) >= _PER_AXIS_OPSET):
            return _Dequantization(codes, scale, None if axis < 0 else axis, int(zero_point))
    return None


def _integers(value: Value | None) -> tuple[Node | None, float]:
    """The Cast to float32 that the value is, or from which a whole number is subtracted; and that number."""
    shift = producer(value, "Sub")
    zero_point = 0.0 if shift is None else scalar(shift.inputs[1])
    cast = producer(value if shift is None else shift.inputs[0], "Cast")
    if cast is None or int_attribute(cast, "to", 0) != DataType.FLOAT:
        return None, 0.0
    if zero_point is None or not zero_point.is_integer():
        return None, 0.0
    if shift is not None and (rank_of(shift.inputs[1]) or 0) > (rank_of(cast.inputs[0]) or 0):
        return None, 0.0
    return cast, zero_point


def _axis_of(scale: np.ndarray, shape: tuple[int, ...]) -> int | None:
    """The axis of the codes along which the scales lie: -1 for a single one, None for scales of another form."""
    if scale.ndim > len(shape):
        return None
    if scale.size == 1:
        return -1
    aligned = (1,) * (len(shape) - scale.ndim) + scale.shape
    (axis, *others) = (index for index, size in enumerate(aligned) if size != 1)
    return axis if not others and aligned[axis] == shape[axis] else None


def _spell(node: Node, made: _Dequantization, edit: Editor) -> None:
    scale = made.scale.reshape(() if made.axis is None else -1)
    name = f"{node.name or node.op_type}_scale"
    operands = [made.codes, edit.add_constant_for(node, np.array(scale), name)]
    if made.zero_point:
        assert made.codes.dtype is not None
        zero_point = np.full(scale.shape, made.zero_point, made.codes.dtype.numpy())
        operands.append(edit.add_constant_for(node, zero_point, f"{node.name or node.op_type}_zero_point"))
    spelled = edit.add_node("DequantizeLinear", operands, {"axis": made.axis}, before=node, name=node.name)
    before = [producer(value, "Sub", "Cast") for value in node.inputs]
    edit.replace(node.outputs[0], spelled.outputs[0])
    edit.remove(node)
    for maker in before:
        edit.remove_unread(maker, "Sub", "Cast")
