"""Nodes that only move data, and whose neighbors compute in another type."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from graphpress.ir import Node, is_standard
from graphpress.ops import lookup


def moves_data(node: Node) -> bool:
    """Whether the node only moves or selects values."""
    spec = lookup(node.op_type) if is_standard(node) else None
    return spec is not None and spec.quantization.moves_data


def islands(nodes: Collection[Node]) -> list[Node]:
    """Those of some nodes in another type that bring nothing but the casts around them.

    Args:
        nodes: all that compute in the type.

    Returns:
        The movers among them that are beside no node of theirs that computes, not even across other movers.
    """
    worthwhile = {node for node in nodes if not moves_data(node)}
    waiting = list(worthwhile)
    while waiting:
        near = [node for node in _neighbors(waiting.pop()) if node in nodes and node not in worthwhile]
        worthwhile.update(near)
        waiting += near
    return [node for node in nodes if node not in worthwhile]


def _neighbors(node: Node) -> Iterator[Node]:
    for value in node.inputs:
        if value is not None and (before := value.producer()) is not None:
            yield before
    for output in node.outputs:
        yield from (use.node for use in output.uses())
