"""Letting the readers of a result read another value in its place: the end of most clean-up rewrites."""

from __future__ import annotations

from graphpress.ir import Editor, Match, Node, Value
from graphpress.passes._operands import can_read_through


def pass_through(node: Node, source: Value) -> Match | None:
    """A match that replaces the first result of ``node`` by ``source``, or None where the node is needed.

    A graph output that repeats an input, an initializer, another output or an outer value needs its node, and so do
    readers in an encoding of their own of what was rounded before.
    """
    if not can_read_through(node, source):
        return None
    if node.outputs[0].is_graph_output():
        before = source.producer()
        if before is None or before.graph is not node.graph or source.is_graph_output():
            return None
    return Match(node=node, source=source)


def forward(match: Match, edit: Editor) -> None:
    """Let every reader of the node's first result read ``match.source``, and drop the node."""
    edit.replace(match.node.outputs[0], match.source)
    edit.remove(match.node)
