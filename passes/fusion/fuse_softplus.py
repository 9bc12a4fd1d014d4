"""Fuse the forms of the softplus into one operator.

    ln(1 + eˣ) = Softplus(x)
    where(x > t, x, Softplus(x)) = Softplus(x)          t at least 15, where both are the same in float32

Refuses when an inner value is read elsewhere. Of half precision and double only the first form is fused: in double the
guard is visible in the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import DataType, Match, Node, Refusal, Value, producer
from graphpress.passes.fusion._operands import number, with_number
from graphpress.passes.fusion._operator import OperatorFusion

GUARD = 15.0
"""ln(1 + eˣ) - x = ln(1 + e⁻ˣ) < 3.1e-7 from here on: less than half a step of float32 at 15."""


@dataclass(frozen=True)
class FuseSoftplus(OperatorFusion):
    """Lossless up to rounding, and safe from overflow: one pass over the tensor instead of three."""

    name: ClassVar[str] = "fuse_softplus"
    root_ops: ClassVar[tuple[str, ...]] = ("Log", "Where")
    emits: ClassVar[str | None] = "Softplus"

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize the logarithm, or the guarded operator."""
        seen: list[Node] = []
        x = softplus_operand(node.outputs[0], seen)
        return None if x is None else Match(end=node, nodes=seen, inputs=[x], attributes={})


def softplus_operand(value: Value, seen: list[Node]) -> Value | None:
    """The x of a softplus that is written out, None when ``value`` is none."""
    log, where = producer(value, "Log"), producer(value, "Where")
    if log is not None:
        return _logarithm(log, seen)
    return None if where is None else _guarded(where, seen)


def _logarithm(log: Node, seen: list[Node]) -> Value | None:
    add = producer(log.inputs[0], "Add")
    joined = None if add is None else with_number(add)
    exp = None if joined is None or joined[1] != 1 else producer(joined[0], "Exp")
    if add is None or exp is None:
        return None
    seen += [log, add, exp]
    return exp.inputs[0]


def _guarded(where: Node, seen: list[Node]) -> Value | None:
    condition, x, otherwise = where.inputs
    greater, plain = producer(condition, "Greater", "GreaterOrEqual"), producer(otherwise, "Softplus")
    if greater is None or plain is None or x is None or plain.inputs[0] is not x or greater.inputs[0] is not x:
        return None
    limit = number(greater.inputs[1], x)
    if limit is None or limit < GUARD or x.dtype != DataType.FLOAT:
        return None
    seen += [where, greater, plain]
    return x
