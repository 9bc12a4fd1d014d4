"""Rows of an integer table are looked up in integers, and decoded behind.

    Gather(DequantizeLinear(q, s), i)   =   s · Gather(q, i)              one scale in all
                                        =   Gather(s, i) · Gather(q, i)   one for each row, or another axis

The same products of the same numbers, bit for bit. ONNX Runtime decodes the whole table each time otherwise, which for
an embedding takes longer than the model.
"""

from __future__ import annotations

import numpy as np

from graphpress.ir import (
    DataType,
    Editor,
    Model,
    Node,
    graphs,
    int_attribute,
    is_constant,
    is_standard,
    producer,
    rank_of,
)
from graphpress.ir.encoding import AffineEncoding
from graphpress.ir.qdq import encoding_of_node


def look_up_codes(model: Model) -> int:
    """Let every Gather of a decoded constant read the integers, in place.

    Args:
        model: with its quantization written in Q/DQ nodes.

    Returns:
        How many there were.
    """
    edit, count = Editor(model), 0
    for graph in graphs(model):
        for node in [node for node in graph if is_standard(node, "Gather")]:
            decoder = producer(node.inputs[0], "DequantizeLinear")
            scales = None if decoder is None else _scales(node, decoder)
            if decoder is not None and scales is not None:
                _decode_behind(node, decoder, scales, edit)
                count += 1
    return count


def _scales(gather: Node, decoder: Node) -> np.ndarray | None:
    """The scales of a table, with axes of one number for those that it has beside; None where it has to be decoded."""
    codes = decoder.inputs[0]
    encoding, rank = encoding_of_node(decoder), rank_of(codes)
    if not is_constant(codes) or rank is None or not isinstance(encoding, AffineEncoding):
        return None
    axis = rank if encoding.axis is None else encoding.axis
    if encoding.block or np.any(encoding.zero_point) or axis < _axis(gather, rank):
        return None
    return encoding.scale.astype(np.float32).reshape([-1 if index == axis else 1 for index in range(rank)])


def _axis(gather: Node, rank: int) -> int:
    return int_attribute(gather, "axis", 0) % rank


def _decode_behind(gather: Node, decoder: Node, scales: np.ndarray, edit: Editor) -> None:
    stem, axis, result = gather.name or gather.op_type, _axis(gather, scales.ndim), gather.outputs[0]
    scale = edit.add_constant_for(gather, scales, f"{stem}_scales")
    if scales.shape[axis] > 1:
        made = edit.add_node("Gather", [scale, gather.inputs[1]], {"axis": axis}, before=gather, name=f"{stem}_scale")
        scale = made.outputs[0]
    else:
        edit.set_constant(scale, scales.reshape(scales.shape[axis + 1 :]))
    rows = edit.put_behind(result, "Mul", [scale], after=gather, name=f"{stem}_decoded").producer()
    assert rows is not None
    edit.set_input(gather, 0, decoder.inputs[0])
    codes = decoder.inputs[0]
    assert codes is not None
    result.type = codes.type
    cast = edit.add_node("Cast", [result], {"to": int(DataType.FLOAT)}, after=gather, name=f"{stem}_cast")
    edit.set_input(rows, 0, cast.outputs[0])
    edit.remove_unread(decoder, "DequantizeLinear")
