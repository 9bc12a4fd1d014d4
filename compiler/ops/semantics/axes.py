"""Which axes an operator works along, whose attributes and defaults have changed from one operator set to another."""

from __future__ import annotations

from collections.abc import Sequence

from graphpress.ir import NodeView, normalize_axis

_PER_AXIS_SINCE = 13
"""Before this operator set, Softmax took all axes from ``axis`` on as one."""


def softmax_axis(node: NodeView) -> tuple[int, bool]:
    """The axis of a Softmax, LogSoftmax or Hardmax as the node gives it, and whether it is that one axis alone.

    Else the axis is the first of all that are taken as one.
    """
    alone = node.opset >= _PER_AXIS_SINCE
    return node.integer("axis", -1 if alone else 1), alone


def reduced_axes(node: NodeView, given: Sequence[int] | None, rank: int) -> list[int]:
    """The axes over which a reduction goes, counted from the front.

    Args:
        node: the reduction.
        given: its axes, from the attribute or the input; None or empty stand for all, or for none if the node says so.
        rank: of the operand.

    Raises:
        AxisError: there is no such axis.
    """
    if given:
        return [normalize_axis(axis, rank) for axis in given]
    return [] if node.flag("noop_with_empty_axes") else list(range(rank))
