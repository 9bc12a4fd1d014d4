"""Opaque operators: those that cannot be run here. All that is known of them is which types and shapes the file
declares for their results.

Which they are is remembered with the model and its copies, and so are the operands that they read in the file: what a
changed model gives them is what can be compared in their stead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from graphpress.ir.types import Function, Graph, Model, Node, TensorType, Value
from graphpress.ir.values import graphs, is_constant, label, present_outputs, reads, subgraphs_of, with_subgraphs

_OPAQUE = "graphpress.opaque"

Operator = tuple[str, str]
"""Domain and name."""


@dataclass(frozen=True)
class Opacity:
    """What cannot be run of a model.

    Args:
        operators: without a kernel; functions that use one among them.
        operands: of nodes of the main graph: by the name of the node and the number of the operand, what to call the
            value that it reads there. Constants and inputs of the model are left out.
        opened: names of nodes of the main graph that are opaque for what the graphs in them hold alone, where the types
            and shapes of its results are known.
    """

    operators: frozenset[Operator] = frozenset()
    operands: Mapping[tuple[str, int], str] = field(default_factory=lambda: MappingProxyType({}))
    opened: frozenset[str] = frozenset()


_NOTHING = Opacity()


def mark_opaque(model: Model, operators: Collection[Operator]) -> None:
    """Remember for the model, whose types were inferred, and for its copies that these operators cannot be run."""
    every = _with_functions(model, set(operators))
    model.meta[_OPAQUE] = Opacity(every)
    nodes = _live(model.graph, opaque_nodes(model))
    operands = {
        (label(node), index): f"{value.name} into {label(node)}"
        for node in nodes
        for index, value in operands_of(node)
        if not is_constant(value) and value.producer() is not None
    }
    holders = (node for node in nodes if not is_opaque(node, model))
    opened = (label(node) for node in holders if all(is_declared(value) for value in _inner_results(node, model)))
    model.meta[_OPAQUE] = Opacity(every, MappingProxyType(operands), frozenset(opened))


def operands_of(node: Node) -> Iterator[tuple[int, Value]]:
    """The values that a node of the main graph reads there, each with a number: first its inputs, by their index, then
    what the graphs in it capture, in the order in which they do.
    """
    inputs = list(node.inputs)
    yield from ((index, value) for index, value in enumerate(inputs) if value is not None)
    others = (value for value in dict.fromkeys(reads(node)) if value not in inputs)
    captured = (value for value in others if (maker := value.producer()) is not None and maker.graph is node.graph)
    yield from enumerate(captured, len(inputs))


def is_declared(value: Value) -> bool:
    """Whether it is known to be a tensor of some type and rank."""
    return value.shape is not None and isinstance(value.type, TensorType)


def inner_opaque(node: Node, model: Model) -> list[Node]:
    """The nodes that are opaque in the graphs that a node holds, at any depth."""
    bodies = (body for graph in subgraphs_of(node) for body in with_subgraphs(graph))
    return [inner for body in bodies for inner in body if is_opaque(inner, model)]


def _inner_results(node: Node, model: Model) -> Iterator[Value]:
    return (result for inner in inner_opaque(node, model) for result in inner.outputs)


def opacity_of(model: Model) -> Opacity:
    """What is remembered of the model; of most, that all of it runs."""
    opacity: Opacity = model.meta.get(_OPAQUE, _NOTHING)
    return opacity


def carry_opacity(source: Model, target: Model) -> None:
    """Remember for another model what is remembered of this one."""
    if _OPAQUE in source.meta:
        target.meta[_OPAQUE] = source.meta[_OPAQUE]


def opaque_nodes(model: Model) -> list[Node]:
    """Nodes of the main graph that are opaque, or hold a graph with one that is."""
    operators = opacity_of(model).operators
    return [node for node in model.graph if _is_opaque(node, operators)] if operators else []


def is_opaque(node: Node, model: Model) -> bool:
    """Whether the node itself cannot be run."""
    return (node.domain, node.op_type) in opacity_of(model).operators


def every_opaque_node(model: Model) -> list[Node]:
    """The nodes themselves that cannot be run, those in graphs of other nodes and in functions too."""
    if not opacity_of(model).operators:
        return []
    return [node for graph in graphs(model) for node in graph if is_opaque(node, model)]


def behind_opaque(model: Model) -> Iterator[Node]:
    """Nodes of the main graph, and of the graphs that they hold, of whose operands some come from an opaque node."""
    opaque, hidden = set(opaque_nodes(model)), hidden_values(model)
    for node in model.graph if opaque else ():
        if hidden.isdisjoint(node.outputs):
            continue
        if node not in opaque:
            yield node
        yield from (inner for graph in subgraphs_of(node) for body in with_subgraphs(graph) for inner in body)


def hidden_values(model: Model) -> set[Value]:
    """What opaque nodes of the main graph compute, and all that depends on it there."""
    opaque, hidden = set(opaque_nodes(model)), set[Value]()
    for node in model.graph if opaque else ():
        if node in opaque or not hidden.isdisjoint(reads(node)):
            hidden.update(node.outputs)
    return hidden


def _is_opaque(node: Node, operators: Collection[Operator]) -> bool:
    if (node.domain, node.op_type) in operators:
        return True
    return any(_holds(graph, operators) for graph in subgraphs_of(node))


def _holds(graph: Graph | Function, operators: Collection[Operator]) -> bool:
    return any((node.domain, node.op_type) in operators for body in with_subgraphs(graph) for node in body)


def _with_functions(model: Model, operators: set[Operator]) -> frozenset[Operator]:
    """The operators, and the functions that use one, directly or not."""
    waiting = dict(model.functions)
    while using := [identity for identity, body in waiting.items() if _holds(body, operators)]:
        operators |= {identity[:2] for identity in using}
        waiting = {identity: body for identity, body in waiting.items() if identity not in using}
    return frozenset(operators)


def _live(graph: Graph, nodes: Collection[Node]) -> list[Node]:
    """Those of the nodes that an output of the graph depends on."""
    needed, live = set(graph.outputs), list[Node]()
    for node in reversed(graph):
        if needed.isdisjoint(present_outputs(node)):
            continue
        needed.update(reads(node))
        if node in nodes:
            live.append(node)
    return live[::-1]
