"""Activations that clamp, and quantizers behind them.

    quantize(clamp(x, low, high)) = clamp(quantize(x), quantize(low), quantize(high))

Rounding is monotone, so that a clamp may follow it, bit for bit. Where the limits land on the ends of the integer grid
or beyond, the quantizer saturates there anyway and no clamp is left; else it becomes one of integers. Either way the
kernel before the quantizer can write integers, from which an activation between the two would keep it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

import numpy as np

from graphpress.ir.edit import Editor
from graphpress.ir.encoding import AffineEncoding, integer_bounds, quantize_array
from graphpress.ir.qdq import encoding_of_node
from graphpress.ir.types import Model, Node, Value
from graphpress.ir.values import graphs, input_of, is_standard, only_reader, opset_of, readers, scalar

IntegerLimits = tuple[np.generic, ...]
"""A lower and an upper limit in the type of the integers; empty where every integer lies between them."""

CLAMPS = ("Relu", "Clip")
INTEGER_CLIP, CLIPPED_TYPES = 12, ("uint8", "int8")
"""The operator set from which on Clip takes integers, and the types that ONNX Runtime has kernels of it for."""


def absorb_activations(model: Model) -> int:
    """Move each Relu or Clip that only quantizers read behind them, in place, where it is one of integers or nothing.

    Args:
        model: with its quantization written in Q/DQ nodes.

    Returns:
        How many were moved.
    """
    edit, count = Editor(model), 0
    for graph in graphs(model):
        for node in [node for node in graph if is_standard(node, *CLAMPS)]:
            limits = _limits_behind(node)
            if limits is not None:
                _move_behind(node, limits, edit)
                count += 1
    return count


def _limits_behind(clamp: Node) -> dict[Node, IntegerLimits] | None:
    """The limits of a clamp in the integers of each quantizer that reads it; None where it has to stay."""
    before, after, bounds = clamp.inputs[0], clamp.outputs[0], _clamp_bounds(clamp)
    if bounds is None or not _comes_from_a_kernel(before) or not only_reader(before, clamp) or after.is_graph_output():
        return None
    limits = {reader: _integer_limits(reader, bounds) for reader in readers(after)}
    known = {quantizer: codes for quantizer, codes in limits.items() if codes is not None}
    return known if known and known.keys() == limits.keys() else None


def _comes_from_a_kernel(value: Value | None) -> TypeGuard[Value]:
    """Whether a node computes the value that could write integers instead."""
    maker = None if value is None else value.producer()
    return maker is not None and not is_standard(maker, "DequantizeLinear")


def _integer_limits(quantizer: Node, bounds: tuple[float, float]) -> IntegerLimits | None:
    """What a quantizer makes of two limits, empty for the ends of its grid; None where no clamp can stand behind it."""
    encoding = encoding_of_node(quantizer) if is_standard(quantizer, "QuantizeLinear") else None
    if not isinstance(encoding, AffineEncoding) or encoding.axis is not None:
        return None
    codes = quantize_array(np.array(bounds, np.float32), encoding)
    if tuple(codes.tolist()) == integer_bounds(encoding.dtype):
        return ()
    has_kernel = encoding.dtype in CLIPPED_TYPES and (opset_of(quantizer) or 0) >= INTEGER_CLIP
    return tuple(codes) if has_kernel else None


def _move_behind(clamp: Node, limits: Mapping[Node, IntegerLimits], edit: Editor) -> None:
    stem = clamp.name or clamp.op_type
    for quantizer, codes in limits.items():
        edit.set_input(quantizer, 0, clamp.inputs[0])
        if codes:
            ends = [
                edit.add_constant_for(quantizer, np.array(code), f"{stem}_{end}")
                for code, end in zip(codes, ("low", "high"), strict=True)
            ]
            edit.put_behind(quantizer.outputs[0], "Clip", ends, after=quantizer, name=f"{stem}_integers")
    edit.remove(clamp)


def _clamp_bounds(node: Node) -> tuple[float, float] | None:
    """The limits of the node; None where they are not known, or cross: then everything becomes the upper one."""
    infinity = float(np.finfo(np.float32).max)
    if node.op_type == "Relu":
        return 0.0, infinity
    limits = []
    for index, default in ((1, -infinity), (2, infinity)):
        value = input_of(node, index)
        limit = default if value is None else scalar(value)
        if limit is None:
            return None
        limits.append(limit)
    attributes = node.attributes
    low = attributes["min"].as_float() if "min" in attributes else limits[0]
    high = attributes["max"].as_float() if "max" in attributes else limits[1]
    return (low, high) if low <= high else None
