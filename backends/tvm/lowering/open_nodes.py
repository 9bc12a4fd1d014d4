"""Which nodes may read or write axes whose extents are known at run time only.

Most operators treat all places of an axis alike, and a kernel that sums over one says itself whether it ends where a
run does (``takes_open``). What tells places of an axis from each other is looked at here; what nobody knows is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from types import MappingProxyType

from graphpress.backends.tvm.lowering.open_axes import open_axes, open_node_error
from graphpress.backends.tvm.lowering.rules import (
    elementwise,
    linear,
    movement,
    normalization,
    packed_weights,
    reduction,
    rotary,
    windowing,
)
from graphpress.ir import Node, NodeView, constant
from graphpress.ops import operator_key

INT32_MAX = 2**31 - 1
"""What exporters write for an end that lies behind all."""

Check = Callable[[Node], str | None]


def check_open_axes(node: Node) -> None:
    """Nothing, where a node may be lowered.

    Raises:
        OpenSizeError: an axis that it reads or writes is open, and it is not known to be right at all sizes.
    """
    if not any(map(open_axes, chain(node.inputs, node.outputs))):
        return
    check = CHECKS.get(operator_key(node.op_type, node.domain))
    why = "nobody knows whether it is right at all of them" if check is None else check(node)
    if why is not None:
        raise open_node_error(node, why)


def _treats_all_alike(node: Node) -> None:
    """Nothing to look at."""


def _parts(node: Node) -> str | None:
    """Split: parts of a fixed axis, whose places are known."""
    axis = NodeView.of(node).axis(0, len(node.outputs[0].shape or ()))
    is_open = any(axis in open_axes(value) for value in chain(node.inputs[:1], node.outputs))
    return "the places of its parts move with them" if is_open else None


def _slice(node: Node) -> str | None:
    """A part of a fixed axis; of an open one all, or the first or last place, which all lengths have."""
    before, after = open_axes(node.inputs[0]), open_axes(node.outputs[0])
    taken = [axis for axis in before if after.get(axis) != before[axis]]
    starts, ends = (NodeView.of(node).integers(name, index) for name, index in (("starts", 1), ("ends", 2)))
    one = starts is not None and ends is not None and all(map(_is_one_place, starts, ends))
    return "it takes a part of an open axis" if taken and not one else None


def _is_one_place(start: int, end: int) -> bool:
    return (start, end) == (0, 1) or (start == -1 and end >= INT32_MAX)


def _gather(node: Node) -> str | None:
    """Of an open axis the first or the last place, which all lengths have."""
    axis = NodeView.of(node).axis(0, len(node.inputs[0].shape or ()) if node.inputs[0] is not None else 0)
    places = constant(node.inputs[1])
    if axis in open_axes(node.inputs[0]) and (places is None or places.size != 1 or places.item() not in (0, -1)):
        return "it takes places of an open axis by their numbers"
    return None


ALIKE = (elementwise, linear, movement, normalization, packed_weights, reduction, rotary, windowing)
"""Families of rules whose operators treat all places of an axis alike, or whose kernels say what they sum over."""
CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        **dict.fromkeys(
            chain(*(family.RULES for family in ALIKE)),
            _treats_all_alike,
        ),
        **dict.fromkeys(("Attention", "Concat", "Expand"), _treats_all_alike),
        "Split": _parts,
        "Gather": _gather,
        "Slice": _slice,
    }
)
"""What is to be looked at, by operator."""
