"""Merge an operator with the same or a stronger one before it.

    f(f(x)) = f(x)     Relu, Abs, Sign, Ceil, Floor, Round
    f(f(x)) = x        Not, Neg, BitwiseNot
    Relu(y) = y        where y is never negative (Sigmoid, Softmax, Exp and the like)

Nothing is refused: where the result is a graph output that its operand cannot stand in for, the node is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Editor, Match, Node, Refusal, Value, input_of, producer
from graphpress.ir.encoding import is_annotated, is_encoded
from graphpress.manager.contract import RewritePass
from graphpress.passes._operands import NEVER_NEGATIVE, is_unread
from graphpress.passes.cleanup._forward import forward, pass_through

IDEMPOTENT = ("Abs", "Ceil", "Floor", "Relu", "Round", "Sign")
INVOLUTION = ("BitwiseNot", "Neg", "Not")


@dataclass(frozen=True)
class FoldIdempotent(RewritePass):
    """Lossless: the second application changes nothing, or undoes the first."""

    name: ClassVar[str] = "fold_idempotent"
    root_ops: ClassVar[tuple[str, ...]] = (*IDEMPOTENT, *INVOLUTION)

    def match(self, node: Node) -> Match | Refusal | None:
        """Find a repetition."""
        source = _result(node)
        return None if source is None else pass_through(node, source)

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Let the readers read what the repetition amounts to."""
        before = match.node.inputs[0].producer()
        forward(match, edit)
        if is_unread(before):
            edit.remove(before)


def _result(node: Node) -> Value | None:
    operand = input_of(node, 0)
    before = producer(operand)
    if before is None or operand is None or is_encoded(operand) or is_annotated(before):
        return None
    if before.op_type == node.op_type:
        return operand if node.op_type in IDEMPOTENT else input_of(before, 0)
    return operand if node.op_type == "Relu" and before.op_type in NEVER_NEGATIVE else None
