"""Remove arithmetic with a neutral element.

    x + 0 = x     x - 0 = x     x * 1 = x     x / 1 = x     x ** 1 = x     x and true = x     x or false = x

Exact for every x, NaN and infinities included, with one exception: -0.0 + 0.0 is 0.0, and becomes -0.0. Both compare
equal; only a later 1/x could tell them apart.

Refuses where the shape of the constant could widen x: when the rank of x is unknown or the constant is larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Editor, Match, Node, Refusal, Value, constant, input_of
from graphpress.manager.contract import RewritePass
from graphpress.passes._operands import all_equal, broadcast_keeps_shape
from graphpress.passes.cleanup._forward import forward, pass_through

NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1, "Pow": 1, "And": 1, "Or": 0}
EITHER_SIDE = ("Add", "Mul", "And", "Or")


@dataclass(frozen=True)
class FoldIdentityArithmetic(RewritePass):
    """Lossless: a pass over the data less."""

    name: ClassVar[str] = "fold_identity_arithmetic"
    root_ops: ClassVar[tuple[str, ...]] = tuple(NEUTRAL)

    def match(self, node: Node) -> Match | Refusal | None:
        """Find an operand that is neutral everywhere."""
        operands = _neutral_operand(node)
        if operands is None:
            return None
        source, neutral = operands
        array = constant(neutral)
        if array is None or not broadcast_keeps_shape(source, array.shape):
            return Refusal.at(
                node,
                f"the constant {neutral.name} could widen {source.name}, whose shape is not known",
                "give the input shape",
            )
        return pass_through(node, source)

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Let the readers read the other operand."""
        forward(match, edit)


def _neutral_operand(node: Node) -> tuple[Value, Value] | None:
    """The operand that passes through and the neutral one."""
    if "axis" in node.attributes or "broadcast" in node.attributes:
        return None  # operator sets before 7 broadcast by attribute
    left, right = input_of(node, 0), input_of(node, 1)
    if left is None or right is None:
        return None
    if all_equal(right, NEUTRAL[node.op_type]):
        return left, right
    if node.op_type in EITHER_SIDE and all_equal(left, NEUTRAL[node.op_type]):
        return right, left
    return None
