"""Fuse x times a sigmoid of x into Swish, also known as SiLU.

    x·σ(α·x) = Swish(x, α)

Refuses before opset 24 and when the sigmoid is read elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Match, Node, Refusal, producer
from graphpress.passes.fusion._algebra import gated, polynomial
from graphpress.passes.fusion._operator import OperatorFusion


@dataclass(frozen=True)
class FuseSwish(OperatorFusion):
    """Lossless up to rounding: one pass over the tensor instead of two or three."""

    name: ClassVar[str] = "fuse_swish"
    root_ops: ClassVar[tuple[str, ...]] = ("Mul",)
    emits: ClassVar[str | None] = "Swish"
    opset: ClassVar[int] = 24

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize x times the sigmoid of a multiple of x."""
        for coefficient, x, gate, seen in gated(node):
            sigmoid = producer(gate, "Sigmoid")
            if sigmoid is None or coefficient != 1 or sigmoid.inputs[0] is None:
                continue
            line = polynomial(sigmoid.inputs[0], x, seen)
            if line is not None and len(line) == 2 and line[0] == 0:
                return Match(end=node, nodes=[*seen, sigmoid], inputs=[x], attributes={"alpha": line[1]})
        return None
