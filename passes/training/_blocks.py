"""Where a graph can be cut in two at a single value: between layers, blocks of a residual network, and so on.

A value is a *cut* when, once it is computed, nothing else that was computed before (nor any graph input) is read any
more. Two neighboring cuts enclose a block, which is a model with one input and one output. Linear in the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphpress.ir import Model, Node, Value, is_constant, subgraphs_of


def cuts(model: Model, counts: Callable[[Value], bool] = lambda value: True) -> list[str]:
    """Names of the floating-point values that everything flows through, in graph order; graph outputs left out.

    Args:
        model: the model.
        counts: which values have to flow through a cut; what does not count may pass beside it.
    """
    nodes = list(model.graph)
    last = {value: at for value, at in _last_readings(model, nodes).items() if counts(value)}
    alive = {value for value in model.graph.inputs if value in last and not is_constant(value)}
    ending: dict[int, list[Value]] = {}
    for value, at in last.items():
        ending.setdefault(at, []).append(value)
    names = []
    for at, node in enumerate(nodes):
        alive.update(value for value in node.outputs if value in last and not is_constant(value))
        alive.difference_update(ending.get(at, ()))
        if len(alive) == 1:
            (value,) = alive
            if value in node.outputs and not value.is_graph_output() and _is_float(value):
                names.append(value.name or "")
    return names


def learned(model: Model, trains: Callable[[Value], bool]) -> set[Value]:
    """The floating-point values that depend on a weight: a mask or a position does not, nor does a shape."""
    reached: set[Value] = set()
    for node in model.graph:
        if any(value in reached or trains(value) for value in _read_by(node)):
            reached.update(value for value in node.outputs if _is_float(value))
    return reached


def borders(model: Model, trained: Mapping[str, Any], usable: Callable[[str], bool]) -> list[str]:
    """Cuts between blocks that have trainable weights each; what follows a weight without having any joins its block.

    Args:
        model: the model.
        trained: trainable parameters by name.
        usable: which cuts, by name, may be borders.
    """
    wanted = {name for name in cuts(model) if usable(name)}
    chosen: list[str] = []
    has_weights, latest = False, None
    for node in model.graph:
        if any(value is not None and value.name in trained for value in node.inputs):
            if latest is not None:
                chosen.append(latest)
            has_weights, latest = True, None
        for value in node.outputs:
            if has_weights and value.name in wanted:
                latest = value.name
    return chosen


@dataclass(frozen=True)
class Chain:
    """Blocks that are trained side by side: each is fed what the teacher feeds its own.

    Args:
        blocks: a trainable model each.
    """

    blocks: Sequence[Any]

    @property
    def parameters(self) -> dict[str, Any]:
        """All of them by name."""
        return {name: parameter for block in self.blocks for name, parameter in block.parameters.items()}

    def module(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        """What every block makes of the teacher's values."""
        return {name: value for block in self.blocks for name, value in block.module(feed).items()}


def _last_readings(model: Model, nodes: Sequence[Node]) -> dict[Value, int]:
    last = {value: at for at, node in enumerate(nodes) for value in _read_by(node)}
    return last | {value: len(nodes) for value in model.graph.outputs}


def _read_by(node: Node) -> Iterator[Value]:
    yield from (value for value in node.inputs if value is not None)
    for subgraph in subgraphs_of(node):
        for inner in subgraph:
            yield from _read_by(inner)


def _is_float(value: Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()
