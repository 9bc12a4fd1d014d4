"""Nodes whose results are known before the model runs: constant folding will remove them."""

from __future__ import annotations

from graphpress.ir import Model, Node, Value, graphs, is_constant, is_standard, static_shape, subgraphs_of
from graphpress.ops import lookup


def settled_nodes(model: Model) -> frozenset[Node]:
    """Nodes that hang on constants and on known shapes alone."""
    settled: set[Node] = set()
    for graph in graphs(model):
        for node in graph:
            if _is_settled(node, settled):
                settled.add(node)
    return frozenset(settled)


def is_settled(value: Value, nodes: frozenset[Node]) -> bool:
    """Whether the value is a constant or will fold to one."""
    return is_constant(value) or value.producer() in nodes


def _is_settled(node: Node, settled: set[Node]) -> bool:
    if not is_standard(node) or any(True for _ in subgraphs_of(node)):
        return False
    if node.op_type in ("Shape", "Size"):
        return static_shape(node.inputs[0]) is not None
    spec = lookup(node.op_type)
    if spec is None or not spec.foldable or not node.inputs:
        return False
    return all(value is None or is_constant(value) or value.producer() in settled for value in node.inputs)
