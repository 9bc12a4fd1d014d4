"""Fuse a group normalization that is written with an instance normalization into one operator.

    reshape(InstanceNormalization(reshape(x, [N, G, -1]), 1, 0), shape(x))·γ + β = GroupNormalization(x, γ, β, G)

γ and β have one number for each channel. Refuses before opset 21 and when an inner value is read elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.ir import (
    Editor,
    Match,
    Node,
    Refusal,
    Value,
    constant,
    dims_of,
    float_attribute,
    int_attribute,
    producer,
)
from graphpress.passes._operands import all_equal, constant_ints, same_shape
from graphpress.passes.fusion._operands import only_reader_of_type, orders, same_size
from graphpress.passes.fusion._operator import OperatorFusion


@dataclass(frozen=True)
class FuseGroupNorm(OperatorFusion):
    """Lossless up to rounding: the scale and the shift are applied where the normalization is."""

    name: ClassVar[str] = "fuse_group_norm"
    root_ops: ClassVar[tuple[str, ...]] = ("InstanceNormalization",)
    emits: ClassVar[str | None] = "GroupNormalization"
    opset: ClassVar[int] = 21

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize the reshape ahead, and the reshape, scale and shift behind."""
        into, back = producer(node.inputs[0], "Reshape"), only_reader_of_type(node, "Reshape")
        x = None if into is None else into.inputs[0]
        dims = dims_of(node.inputs[0])
        if into is None or back is None or x is None or dims is None or len(dims) != 3 or dims[1] is None:
            return None
        if not (all_equal(node.inputs[1], 1) and all_equal(node.inputs[2], 0) and _undoes(back, x)):
            return None
        if not _keeps_batch(into, x):
            return None
        mul = only_reader_of_type(back, "Mul")
        add = None if mul is None else only_reader_of_type(mul, "Add")
        if mul is None or add is None:
            return None
        scale, bias = _by_channel(mul, back, x), _by_channel(add, mul, x)
        if scale is None or bias is None:
            return None
        attributes = {"num_groups": dims[1], "epsilon": float_attribute(node, "epsilon", 1e-5)}
        nodes = [add, mul, back, node, into]
        return Match(end=add, nodes=nodes, x=x, scale=scale, bias=bias, attributes=attributes)

    def operands(self, match: Match, edit: Editor) -> list[Value]:
        """The input, and the scale and the bias as vectors."""
        stem = match.end.name or "group_norm"
        scale = edit.add_constant_for(match.end, match.scale, f"{stem}_scale")
        return [match.x, scale, edit.add_constant_for(match.end, match.bias, f"{stem}_bias")]


def _keeps_batch(reshape: Node, x: Value) -> bool:
    """Whether the reshape leaves the first axis as it is, so that no group spans two samples."""
    target = constant_ints(reshape.inputs[1])
    copies = target is not None and target[0] == 0 and int_attribute(reshape, "allowzero", 0) == 0
    return copies or same_size((reshape.outputs[0], 0), (x, 0))


def _undoes(reshape: Node, x: Value) -> bool:
    """Whether the reshape brings back the shape of ``x``."""
    shape = producer(reshape.inputs[1], "Shape")
    return (shape is not None and shape.inputs[0] is x) or same_shape(reshape.outputs[0], x)


def _by_channel(node: Node, before: Node, x: Value) -> np.ndarray | None:
    """The constant operand of ``node`` as one number for each channel of ``x``, axis 1."""
    dims = dims_of(x)
    for value, operand in orders(node):
        array = constant(operand)
        if value is not before.outputs[0] or array is None or dims is None or dims[1] is None:
            continue
        aligned = array.ndim == len(dims) - 1 or (array.ndim == len(dims) and array.shape[0] == 1)
        if aligned and array.size == dims[1] == array.shape[1 - len(dims)]:
            return array.reshape(-1)
    return None
