"""Fuse a straight line that is clipped to the interval from 0 to 1 into HardSigmoid.

    clip(a·x + b, 0, 1) = clip(c·(a·x + b), 0, c)/c = HardSigmoid(x, a, b)

Relu6(x + 3)/6 is the usual case. Refuses when an inner value is read elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Match, Node, Refusal, Value, float_attribute, producer
from graphpress.passes.fusion._algebra import affine, clamp
from graphpress.passes.fusion._operands import is_close
from graphpress.passes.fusion._operator import OperatorFusion


@dataclass(frozen=True)
class Ramp:
    """``clip(alpha·value + beta, 0, 1)``."""

    value: Value
    alpha: float
    beta: float


@dataclass(frozen=True)
class FuseHardSigmoid(OperatorFusion):
    """Lossless up to rounding: one pass over the tensor instead of two or three."""

    name: ClassVar[str] = "fuse_hard_sigmoid"
    root_ops: ClassVar[tuple[str, ...]] = ("Clip", "Min", "Mul", "Div")
    emits: ClassVar[str | None] = "HardSigmoid"

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize a clipped line that takes more than one node."""
        seen: list[Node] = []
        line = ramp(node.outputs[0], 1.0, seen, root=node.outputs[0])
        if line is None or len(seen) < 2 or (line.alpha, line.beta) == (1.0, 0.0):
            return None
        attributes = {"alpha": line.alpha, "beta": line.beta}
        return Match(end=node, nodes=seen, inputs=[line.value], attributes=attributes)


def ramp(value: Value, coefficient: float, seen: list[Node], root: Value | None = None) -> Ramp | None:
    """``coefficient`` times ``value`` as a line clipped to [0, 1], None when it is none."""
    inner, slope, offset = affine(value, seen, root)
    slope, offset = slope * coefficient, offset * coefficient
    hard_sigmoid = producer(inner, "HardSigmoid")
    if hard_sigmoid is not None and hard_sigmoid.inputs[0] is not None:
        seen.append(hard_sigmoid)
        alpha, beta = float_attribute(hard_sigmoid, "alpha", 0.2), float_attribute(hard_sigmoid, "beta", 0.5)
        is_plain = is_close(slope, 1, inner) and offset == 0
        return Ramp(hard_sigmoid.inputs[0], alpha, beta) if is_plain else None
    limits = clamp(inner, seen, root)
    if limits is None or offset or limits.low != 0 or not is_close(slope * limits.high, 1, inner):
        return None
    line, alpha, beta = affine(limits.value, seen)
    return Ramp(line, slope * alpha, slope * beta)
