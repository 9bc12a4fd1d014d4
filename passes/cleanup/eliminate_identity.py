"""Remove operators that hand their input on unchanged, whatever its shape.

    Identity(x) = x                      Cast(x, own type) = x          CastLike(x, same type) = x
    Dropout(x) = x in inference          Sum/Max/Min/Mean/Concat(x) = x with a single operand

Refuses where the result is a graph output and the operand cannot carry its public name (it is a graph input, a
constant, another output or belongs to an outer graph), and for a Dropout whose mask is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import (
    Editor,
    Match,
    Node,
    Refusal,
    Value,
    input_of,
    int_attribute,
)
from graphpress.manager.contract import RewritePass
from graphpress.passes.cleanup._forward import forward, pass_through
from graphpress.passes.cleanup._purity import may_train

SINGLE_OPERAND = ("Concat", "Max", "Mean", "Min", "Sum")


@dataclass(frozen=True)
class EliminateIdentity(RewritePass):
    """Lossless: the same numbers, one copy less."""

    name: ClassVar[str] = "eliminate_identity"
    root_ops: ClassVar[tuple[str, ...]] = ("Identity", "Dropout", "Cast", "CastLike", *SINGLE_OPERAND)

    def match(self, node: Node) -> Match | Refusal | None:
        """Find an operator that changes nothing."""
        source = input_of(node, 0)
        if source is None or not _changes_nothing(node, source):
            return None
        if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
            return Refusal.at(node, "its mask is read", "drop the model output that needs the mask")
        return pass_through(node, source)

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Let the readers read the operand."""
        forward(match, edit)


def _changes_nothing(node: Node, source: Value) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type == "Dropout":
        return not may_train(node)
    if node.op_type == "Cast":
        return source.dtype is not None and source.dtype.value == int_attribute(node, "to", 0)
    if node.op_type == "CastLike":
        like = input_of(node, 1)
        return like is not None and source.dtype is not None and source.dtype == like.dtype
    return len(node.inputs) == 1
