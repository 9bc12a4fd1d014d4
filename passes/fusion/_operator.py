"""The frame of the rules that replace an expression by the standard operator that computes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Editor, Match, Node, Refusal, opset_of
from graphpress.manager.contract import RewritePass


@dataclass(frozen=True)
class OperatorFusion(RewritePass):
    """A rule whose ``find`` recognises an expression; the rest is the same for all of them.

    Class attributes:
        emits: the operator.
        opset: the operator set in which it is new.
    """

    opset: ClassVar[int] = 1

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognise the expression that ends in ``node``, whatever the model's operator set.

        Returns:
            What ``found`` makes of the operator's inputs and attributes and of the nodes that it replaces.
        """
        raise NotImplementedError

    def match(self, node: Node) -> Match | Refusal | None:
        """Fits where ``find`` does, the model's operator set has the operator, and nobody reads the inner values."""
        found = self.find(node)
        if not isinstance(found, Match):
            return found
        if (opset_of(node) or 0) < self.opset:
            return needs_opset(node, self.opset)
        return outside_reader(found.nodes, node) or found

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Put the operator in the place of the last node and drop the expression."""
        fused = edit.add_node(self.emits or "", match.inputs, match.attributes, before=match.end)
        edit.replace(match.end.outputs[0], fused.outputs[0])
        remove_all(edit, match.nodes)


def needs_opset(node: Node, version: int) -> Refusal:
    """The refusal of a fusion whose operator is newer than the model's operator set."""
    return Refusal.at(node, f"needs opset {version}, the model has {opset_of(node)}", "run raise_opset first")


def outside_reader(nodes: Iterable[Node], end: Node) -> Refusal | None:
    """A refusal that names the inner value of an expression which somebody outside of it reads."""
    inside = set(nodes)
    for node in inside - {end}:
        for value in node.outputs:
            if (
                value.is_graph_output()
                or node.graph is not end.graph
                or any(u.node not in inside for u in value.uses())
            ):
                return Refusal.at(value, f"the inner value of {end.op_type} {end.name or ''} has another reader")
    return None


def remove_all(edit: Editor, nodes: Iterable[Node]) -> None:
    """Remove the nodes of an expression, readers first."""
    left = list(dict.fromkeys(nodes))
    while left:
        free = [node for node in left if not any(output.uses() for output in node.outputs)]
        assert free, "an expression that is read from outside cannot be removed"
        edit.remove(*free)
        left = [node for node in left if node not in free]
