"""The order of nodes: each behind those that it reads from, as nearly every exporter writes them."""

from __future__ import annotations

from graphpress.errors import ModelError
from graphpress.ir.types import Function, Graph, Model, Node
from graphpress.ir.values import holds_graphs, subgraphs_of


def sort(model: Model, where: str) -> None:
    """Put the nodes of every graph behind those that they read from, in place; sorted ones stay as they are.

    Raises:
        ModelError: there is a cycle.
    """
    owners: list[Graph | Function] = [model.graph, *model.functions.values()]
    for graph in owners:
        if _is_sorted(graph, set()):
            continue
        try:
            graph.sort()
        except ValueError as error:
            raise ModelError("the graph has a cycle", where=where, fix="export the model again") from error


def _is_sorted(graph: Graph | Function, made: set[Node]) -> bool:
    """Whether every node comes after those that it reads, as nearly every exporter writes them.

    Args:
        graph: with the graphs that its nodes hold.
        made: nodes that come before, to which those of this graph are added.
    """
    for node in graph:
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if producer is not None and producer not in made:
                return False
        if holds_graphs(node) and not all(_is_sorted(subgraph, made) for subgraph in subgraphs_of(node)):
            return False
        made.add(node)
    return True
