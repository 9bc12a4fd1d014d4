"""Fuse x times a hard sigmoid of x into HardSwish.

    x·clip(x + 3, 0, 6)/6 = x·clip(x/6 + 1/2, 0, 1) = x·HardSigmoid(x, 1/6, 1/2) = HardSwish(x)

The clipping may be a Clip, a Relu and a Min, or a HardSigmoid; the division may stand anywhere. Refuses before opset 14
and when an inner value is read elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Match, Node, Refusal
from graphpress.passes.fusion._algebra import gated
from graphpress.passes.fusion._operands import is_close
from graphpress.passes.fusion._operator import OperatorFusion
from graphpress.passes.fusion.fuse_hard_sigmoid import Ramp, ramp


@dataclass(frozen=True)
class FuseHardSwish(OperatorFusion):
    """Lossless up to rounding: one pass over the tensor instead of two to four."""

    name: ClassVar[str] = "fuse_hard_swish"
    root_ops: ClassVar[tuple[str, ...]] = ("Mul", "Div")
    emits: ClassVar[str | None] = "HardSwish"
    opset: ClassVar[int] = 14

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize x times a gate that rises from 0 at -3 to 1 at 3."""
        for coefficient, x, gate, seen in gated(node):
            line = ramp(gate, coefficient, seen)
            if line is not None and line.value is x and _rises_from_minus_3_to_3(line):
                return Match(end=node, nodes=seen, inputs=[x], attributes={})
        return None


def _rises_from_minus_3_to_3(line: Ramp) -> bool:
    return is_close(line.alpha, 1 / 6, line.value) and is_close(line.beta, 0.5, line.value)
