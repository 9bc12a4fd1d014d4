"""Fuse a softmax that is written out into one operator.

    exp(x)/Σ exp(x) = exp(x - max(x))/Σ exp(x - max(x)) = Softmax(x)         along one axis

Refuses before opset 13, whose Softmax flattens the axes behind its own, and when an inner value is read elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Match, Node, Refusal, Value, int_attribute, producer
from graphpress.passes._operands import ints_operand
from graphpress.passes.fusion._operator import OperatorFusion


@dataclass(frozen=True)
class FuseSoftmax(OperatorFusion):
    """Lossless up to rounding, and safe from overflow, which the bare exponential is not."""

    name: ClassVar[str] = "fuse_softmax"
    root_ops: ClassVar[tuple[str, ...]] = ("Div",)
    emits: ClassVar[str | None] = "Softmax"
    opset: ClassVar[int] = 13

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize exponentials divided by their sum."""
        exp, total = producer(node.inputs[0], "Exp"), producer(node.inputs[1], "ReduceSum")
        if exp is None or total is None or total.inputs[0] is not exp.outputs[0] or exp.inputs[0] is None:
            return None
        axis = _one_axis(total)
        if axis is None:
            return None
        x, nodes = _without_maximum(exp.inputs[0], axis)
        return Match(end=node, nodes=[node, exp, total, *nodes], inputs=[x], attributes={"axis": axis})


def _one_axis(reduction: Node) -> int | None:
    axes = ints_operand(reduction, "axes", 1)
    return axes[0] if axes is not None and len(axes) == 1 and int_attribute(reduction, "keepdims", 1) else None


def _without_maximum(value: Value, axis: int) -> tuple[Value, list[Node]]:
    """The x of ``x - max(x)`` with the nodes that compute it, or the value itself."""
    sub = producer(value, "Sub")
    largest = None if sub is None else producer(sub.inputs[1], "ReduceMax")
    if sub is None or largest is None or sub.inputs[0] is None or largest.inputs[0] is not sub.inputs[0]:
        return value, []
    return (sub.inputs[0], [sub, largest]) if _one_axis(largest) == axis else (value, [])
