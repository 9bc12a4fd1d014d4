"""What moving a transpose past an elementwise operator takes: operands and shapes in the other order of axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphpress.ir import Node, Shape, Value, constant, input_of, is_standard, producer
from graphpress.ir.encoding import encoding_of, is_annotated, is_encoded
from graphpress.ops import lookup
from graphpress.passes._operands import permutation

BOUND_TO_AXES = frozenset(("BatchNormalization", "Dropout"))
"""Elementwise in the table of operators, but with operands or results that are not aligned by broadcasting."""


def follows_layout(node: Node) -> bool:
    """Whether the operator computes the same for any order of axes, as long as all operands have that order."""
    spec = lookup(node.op_type) if is_standard(node) else None
    return (
        spec is not None
        and spec.elementwise
        and node.op_type not in BOUND_TO_AXES
        and len(node.outputs) == 1
        and not is_annotated(node)
        and not {"axis", "broadcast"} & node.attributes.keys()
    )


def transposed(value: Value | None) -> tuple[Node, tuple[int, ...]] | None:
    """The transpose that computes ``value`` and its order of axes, if there is one and its operand is present."""
    node = producer(value, "Transpose")
    if value is None or node is None or input_of(node, 0) is None or is_encoded(value) or is_annotated(node):
        return None
    order = permutation(node)
    return None if order is None else (node, order)


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The order of axes that undoes ``order``."""
    return tuple(int(axis) for axis in np.argsort(order))


def can_reorder(value: Value | None, rank: int) -> bool:
    """Whether an operand beside a tensor of this rank can be given in another order: absent, or a constant."""
    if value is None:
        return True
    array = constant(value)
    return array is not None and array.ndim <= rank and encoding_of(value) is None


def reordered(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The constant beside an operand from which a transpose by ``order`` was taken away; a number stays a number."""
    if array.size == 1:
        return array
    full = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
    return np.ascontiguousarray(np.transpose(full, inverse(order)))


def reorder_shape(value: Value, order: Sequence[int]) -> None:
    """Give a value the shape that it has without the transpose by ``order`` ahead of it."""
    if value.shape is not None and len(value.shape) == len(order):
        value.shape = Shape([value.shape[axis] for axis in inverse(order)])
