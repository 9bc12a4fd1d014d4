"""Fuse x times tanh of softplus of x into Mish.

    x·tanh(ln(1 + eˣ)) = Mish(x)

Exporters guard the softplus against overflow, where(x > 20, x, softplus(x)); ONNX's Softplus needs no guard, and
from 20 on both are x in float32. Refuses before opset 18 and when an inner value is read elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Match, Node, Refusal, Value, producer
from graphpress.passes.fusion._algebra import gated
from graphpress.passes.fusion._operator import OperatorFusion
from graphpress.passes.fusion.fuse_softplus import softplus_operand


@dataclass(frozen=True)
class FuseMish(OperatorFusion):
    """Lossless up to rounding: one pass over the tensor instead of three to five."""

    name: ClassVar[str] = "fuse_mish"
    root_ops: ClassVar[tuple[str, ...]] = ("Mul",)
    emits: ClassVar[str | None] = "Mish"
    opset: ClassVar[int] = 18

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize x times the tanh of its softplus."""
        for coefficient, x, gate, seen in gated(node):
            tanh = producer(gate, "Tanh")
            if tanh is not None and coefficient == 1 and _softplus(tanh.inputs[0], seen) is x:
                return Match(end=node, nodes=[*seen, tanh], inputs=[x], attributes={})
        return None


def _softplus(value: Value | None, seen: list[Node]) -> Value | None:
    plain = producer(value, "Softplus")
    if plain is not None:
        seen.append(plain)
        return plain.inputs[0]
    return None if value is None else softplus_operand(value, seen)
