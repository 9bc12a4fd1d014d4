"""Fuse the error-function and the tanh form of GELU into one operator.

    x·(1 + erf(x/√2))/2 = Gelu(x)
    x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 = Gelu(x, approximate="tanh")

The factors and the constants may stand in any order and be multiplied out. Refuses before opset 20 and when an inner
value is read elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Match, Node, Refusal, Value, producer
from graphpress.passes.fusion._algebra import affine, gated, polynomial
from graphpress.passes.fusion._operands import is_close
from graphpress.passes.fusion._operator import OperatorFusion

ERF = (0.0, 1 / math.sqrt(2))
TANH = (0.0, math.sqrt(2 / math.pi), 0.0, math.sqrt(2 / math.pi) * 0.044715)


@dataclass(frozen=True)
class FuseGelu(OperatorFusion):
    """Lossless up to rounding: one pass over the tensor instead of five or more."""

    name: ClassVar[str] = "fuse_gelu"
    root_ops: ClassVar[tuple[str, ...]] = ("Mul", "Div")
    emits: ClassVar[str | None] = "Gelu"
    opset: ClassVar[int] = 20

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize x times a gate that is half of one plus erf or tanh of a polynomial in x."""
        for coefficient, x, gate, seen in gated(node):
            curve, slope, offset = affine(gate, seen)
            sigmoid = producer(curve, "Erf", "Tanh")
            if sigmoid is None or not all(is_close(coefficient * half, 0.5, x) for half in (slope, offset)):
                continue
            seen.append(sigmoid)
            if _is(sigmoid.inputs[0], x, ERF if sigmoid.op_type == "Erf" else TANH, seen):
                attributes = {"approximate": "tanh"} if sigmoid.op_type == "Tanh" else {}
                return Match(end=node, nodes=seen, inputs=[x], attributes=attributes)
        return None


def _is(value: Value | None, x: Value, expected: tuple[float, ...], seen: list[Node]) -> bool:
    terms = None if value is None else polynomial(value, x, seen)
    if terms is None or len(terms) != len(expected):
        return False
    return all(is_close(a, b, x) for a, b in zip(terms, expected, strict=True))
