"""Fuse the selection between x and a multiple of it into LeakyRelu.

    where(x > 0, x, a·x) = max(x, a·x) = LeakyRelu(x, a)          the second for a between 0 and 1

Refuses when an inner value is read elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Match, Node, Refusal, Value, producer
from graphpress.passes.fusion._operands import number, orders, with_number
from graphpress.passes.fusion._operator import OperatorFusion


@dataclass(frozen=True)
class FuseLeakyRelu(OperatorFusion):
    """Lossless: one pass over the tensor instead of two or three."""

    name: ClassVar[str] = "fuse_leaky_relu"
    root_ops: ClassVar[tuple[str, ...]] = ("Where", "Max")
    emits: ClassVar[str | None] = "LeakyRelu"

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize the choice by comparison with zero, or by the larger of the two."""
        return _by_comparison(node) if node.op_type == "Where" else _by_maximum(node)


def _by_comparison(where: Node) -> Match | None:
    condition, x, scaled = where.inputs
    greater = producer(condition, "Greater", "GreaterOrEqual")
    if greater is None or x is None or greater.inputs[0] is not x or number(greater.inputs[1], x) != 0:
        return None
    return _match(where, x, scaled, [greater])


def _by_maximum(maximum: Node) -> Match | None:
    matches = (_match(maximum, x, scaled, []) for x, scaled in orders(maximum))
    return next((match for match in matches if match is not None and 0 <= match.attributes["alpha"] <= 1), None)


def _match(end: Node, x: Value, scaled: Value | None, others: list[Node]) -> Match | None:
    mul = producer(scaled, "Mul")
    joined = None if mul is None else with_number(mul)
    if mul is None or joined is None or joined[0] is not x:
        return None
    return Match(end=end, nodes=[end, mul, *others], inputs=[x], attributes={"alpha": joined[1]})
