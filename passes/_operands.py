"""Questions the passes share: constant integers, axes in either form, what types prove, what encodings allow."""

from __future__ import annotations

import numpy as np

from graphpress.ir import Node, Value, constant, dims_of, has_one_use, input_of, ints_attribute, rank_of, static_shape
from graphpress.ir.encoding import encoding_of, is_annotated, is_encoded, is_overridden

NEVER_NEGATIVE = ("Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus")
"""Operators whose result is nowhere below zero."""


def constant_ints(value: Value | None) -> tuple[int, ...] | None:
    """The integers of a constant tensor of rank 0 or 1, else None."""
    array = constant(value)
    if array is None or array.ndim > 1 or array.dtype.kind not in "iu":
        return None
    return tuple(int(item) for item in array.reshape(-1))


def ints_operand(node: Node, name: str, index: int) -> tuple[int, ...] | None:
    """Integers that older operator sets take as attribute ``name`` and newer ones as input ``index``.

    None when they are absent or not constant; ``has_operand`` distinguishes the two.
    """
    listed = ints_attribute(node, name)
    return listed if listed is not None else constant_ints(input_of(node, index))


def has_operand(node: Node, name: str, index: int) -> bool:
    """Whether the operand is given at all, constant or not."""
    return name in node.attributes or input_of(node, index) is not None


def same_shape(first: Value, second: Value) -> bool:
    """Whether the declared shapes prove that both values have the same shape; equal symbols are equal sizes."""
    static = static_shape(first)
    if static is not None:
        return static == static_shape(second)
    if first.shape is None or second.shape is None or len(first.shape) != len(second.shape):
        return False
    return all(_same_size(a, b) for a, b in zip(first.shape, second.shape, strict=True))


def _same_size(first: object, second: object) -> bool:
    if isinstance(first, int) or isinstance(second, int):
        return first == second
    name = getattr(first, "value", None)
    return name is not None and name == getattr(second, "value", None)


def broadcast_keeps_shape(value: Value, dims: tuple[int, ...]) -> bool:
    """Whether an elementwise operator on ``value`` and a tensor of size ``dims`` provably keeps value's shape."""
    if not dims:
        return True
    known = dims_of(value)
    if known is None or len(dims) > len(known):
        return False
    tail = known[len(known) - len(dims) :]
    return all(size in (1, own) for size, own in zip(dims, tail, strict=True))


def normal_axes(axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Axes counted from the front."""
    return tuple(axis + rank if axis < 0 else axis for axis in axes)


def all_equal(value: Value | None, number: float) -> bool:
    """Whether a constant holds this number everywhere; an empty or non-numeric one does not."""
    array = constant(value)
    if array is None or array.size == 0 or array.dtype.kind not in "biuf":
        return False
    return bool(np.all(array == number))


def is_private(value: Value) -> bool:
    """Whether the value exists for one reader alone, who reads it as it is, and so need not exist.

    Nor may maker or reader be annotated: the encodings of their own inputs would be lost, or apply to other inputs.
    """
    maker = value.producer()
    return (
        has_one_use(value)
        and not is_encoded(value)
        and not (maker is not None and is_annotated(maker))
        and not any(is_annotated(use.node) for use in value.uses())
    )


def is_unread(node: Node) -> bool:
    """Whether nothing needs the single result of the node any more."""
    return not node.outputs[0].uses() and not node.outputs[0].is_graph_output()


def can_read_through(node: Node, source: Value) -> bool:
    """Whether those who read the result of ``node``, which repeats its operand ``source``, may read that instead.

    Where ``source`` is read in an encoding they must read it in the same: they get numbers that were rounded there.
    """
    if is_annotated(node):
        return False
    result, encoding = node.outputs[0], encoding_of(source)
    return encoding is None or (encoding_of(result) in (None, encoding) and not is_overridden(result))


def permutation(transpose: Node) -> tuple[int, ...] | None:
    """The axes order of a Transpose, None when it is the default and the rank is unknown."""
    given = ints_attribute(transpose, "perm")
    rank = rank_of(input_of(transpose, 0))
    if given is not None or rank is None:
        return given
    return tuple(reversed(range(rank)))


def keeps_order(transpose: Node) -> bool:
    """Whether a Transpose keeps the order of all axes but those of size 1, and so of the elements in memory."""
    order = permutation(transpose)
    if order is None:
        return False
    dims = dims_of(input_of(transpose, 0)) or (None,) * len(order)
    long = [axis for axis in order if dims[axis] != 1]
    return long == sorted(long)
