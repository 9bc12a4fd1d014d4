"""Functions of a model as what they stand for: the nodes that are there when all of them are written out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from graphpress.ir.types import Function, Graph, Model
from graphpress.ir.values import with_subgraphs

MOST_NODES = 1 << 20
"""Functions that call each other twice each double at every level; inference and runtimes write all of it out."""

_Identifier = tuple[str, str, str]


def function_problems(model: Model) -> list[str]:
    """Functions that call themselves, and graphs that are too large with all functions written out."""
    if not model.functions:
        return []
    calls = {identifier: _calls(function, model.functions) for identifier, function in model.functions.items()}
    try:
        order = tuple(
            TopologicalSorter({identifier: set(inner) for identifier, (_, inner) in calls.items()}).static_order()
        )
    except CycleError as error:
        return [f"the function {error.args[1][0][1]!r} calls itself"]
    sizes: dict[_Identifier, int] = {}
    for identifier in order:
        sizes[identifier] = _size(*calls[identifier], sizes)
    size = _size(*_calls(model.graph, model.functions), sizes)
    return [f"its functions, written out, are {size:,} nodes, more than {MOST_NODES:,}"] if size > MOST_NODES else []


def _calls(body: Graph | Function, functions: Iterable[_Identifier]) -> tuple[int, Counter[_Identifier]]:
    """The number of nodes that are no calls, and the calls, subgraphs included."""
    every = Counter(node.op_identifier() for graph in with_subgraphs(body) for node in graph)
    calls = Counter({identifier: every[identifier] for identifier in functions if identifier in every})
    return every.total() - calls.total(), calls


def _size(nodes: int, calls: Counter[_Identifier], sizes: dict[_Identifier, int]) -> int:
    return nodes + sum(times * sizes[identifier] for identifier, times in calls.items())
