"""The nodes of a model by operator: found in one walk, which holds for as long as the model does not change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from graphpress.ir.types import Function, Graph, Model, Node
from graphpress.ir.values import holds_graphs, subgraphs_of


@dataclass(eq=False)
class IndexedGraph:
    """One graph or function body, with its nodes by operator.

    Args:
        graph: the graph or the function.
        owner: the node that holds it as an attribute; None for the main graph and for functions.
        outer: the graph around it.
        positions: place of each node in the graph, by operator and then by node; domains are not distinguished.
    """

    graph: Graph | Function
    owner: Node | None = None
    outer: IndexedGraph | None = None
    positions: defaultdict[str, dict[Node, int]] = field(default_factory=lambda: defaultdict(dict))

    @property
    def body(self) -> Graph:
        """What the nodes have as their ``graph``."""
        return self.graph.graph if isinstance(self.graph, Function) else self.graph

    @property
    def is_reachable(self) -> bool:
        """Whether the graph is still part of the model: the node that holds it may have been removed."""
        return self.owner is None or (
            self.outer is not None and self.owner.graph is self.outer.body and self.outer.is_reachable
        )

    def nodes(self, op_types: Iterable[str] = ()) -> list[Node]:
        """The nodes of these operators (all nodes, when none are given), in the order of the graph."""
        wanted = [self.positions[op_type] for op_type in op_types or self.positions if op_type in self.positions]
        if len(wanted) == 1:
            return list(wanted[0])
        places = {node: place for group in wanted for node, place in group.items()}
        return sorted(places, key=places.__getitem__)


class OperatorIndex:
    """Where each operator is in a model; the walk is made when something is asked for.

    Whoever changes the model calls ``forget`` when done. A removed node that is still listed has no graph any more.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def forget(self) -> None:
        """Walk again when something is asked for next: the model has changed."""
        self.__dict__.pop("graphs", None)

    @cached_property
    def graphs(self) -> tuple[IndexedGraph, ...]:
        """The main graph, its subgraphs and every function body (with their subgraphs), outermost first."""
        owners: list[Graph | Function] = [self._model.graph, *self._model.functions.values()]
        return tuple(indexed for owner in owners for indexed in _walk(IndexedGraph(owner)))

    @property
    def count(self) -> int:
        """Nodes of all graphs."""
        return sum(len(nodes) for indexed in self.graphs for nodes in indexed.positions.values())


def _walk(indexed: IndexedGraph) -> Iterator[IndexedGraph]:
    yield indexed
    holders = []
    for place, node in enumerate(indexed.graph):
        indexed.positions[node.op_type][node] = place
        if holds_graphs(node):
            holders.append(node)
    for node in holders:
        for subgraph in subgraphs_of(node):
            yield from _walk(IndexedGraph(subgraph, node, indexed))
