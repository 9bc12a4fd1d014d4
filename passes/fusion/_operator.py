"""The frame of the rules that replace an expression by the standard operator that computes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import DataType, Editor, Match, Node, Refusal, Value, opset_of
from graphpress.ir.encoding import is_annotated, is_encoded, is_overridden
from graphpress.manager.contract import RewritePass


@dataclass(frozen=True)
class OperatorFusion(RewritePass):
    """A rule whose ``find`` recognizes an expression; the rest is the same for all of them.

    Class attributes:
        operator: the operator, which is ``emits`` too where the target's data decides whether it pays.
        opset: the operator set in which it is new.
        types: of the result. An operator with numbers as attributes keeps them in float32, too coarse for double.
    """

    operator: ClassVar[str] = ""
    opset: ClassVar[int] = 1
    types: ClassVar[tuple[DataType, ...]] = (DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16)

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize the expression around ``node``, whatever the model's operator set.

        Returns:
            A match that holds ``end``, the node whose result the operator computes; ``nodes``, all that it replaces;
            the operator's ``attributes`` and, unless ``operands`` makes them, its ``inputs``.
        """
        raise NotImplementedError

    def operands(self, match: Match, edit: Editor) -> Sequence[Value | None]:
        """The operator's inputs; those of the match, unless a rule has constants to add."""
        inputs: Sequence[Value | None] = match.inputs
        return inputs

    def find_private(self, node: Node) -> Match | Refusal | None:
        """What ``find`` recognizes, refused when an inner value is read outside or in an encoding."""
        match = self.find(node)
        if not isinstance(match, Match):
            return match
        dtype = match.end.outputs[0].dtype
        if dtype is not None and dtype not in self.types:
            return Refusal.at(match.end, f"the fused operator does not compute in {dtype.name.lower()}")
        return outside_reader(match.nodes, match.end) or encoded_within(match.nodes, match.end) or match

    def match(self, node: Node) -> Match | Refusal | None:
        """Fits a private expression where the model's operator set has the operator."""
        match = self.find_private(node)
        if isinstance(match, Match) and (opset_of(node) or 0) < self.opset:
            return needs_opset(node, self.opset)
        return match

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Put the operator in the place of the last node and drop the expression."""
        inputs = self.operands(match, edit)
        fused = edit.add_node(self.operator or self.emits or "", inputs, match.attributes, before=match.end)
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


def encoded_within(nodes: Iterable[Node], end: Node) -> Refusal | None:
    """A refusal that names what is quantized within an expression: one operator would not round there."""
    for node in dict.fromkeys(nodes):
        if is_annotated(node):
            return Refusal.at(node, "it is quantized already, or says how it reads an input", "fuse before quantizing")
        for value in node.outputs if node is not end else ():
            if is_encoded(value) or is_overridden(value):
                return Refusal.at(value, f"the inner value of {end.op_type} is quantized", "fuse before quantizing")
    return None


def remove_all(edit: Editor, nodes: Iterable[Node]) -> None:
    """Remove the nodes of an expression, readers first."""
    left = list(dict.fromkeys(nodes))
    while left:
        free = [node for node in left if not any(output.uses() for output in node.outputs)]
        assert free, "an expression that is read from outside cannot be removed"
        edit.remove(*free)
        left = [node for node in left if node not in free]
