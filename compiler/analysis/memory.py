"""Activation memory by liveness: which values are alive at once when nodes run in graph order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import accumulate

from graphpress.analysis.views import bytes_of, view_of
from graphpress.ir import Dims, Graph, Model, Node, UnknownShapeError, Value, is_constant, subgraphs_of
from graphpress.ops import lookup


def peak_activation_bytes(model: Model, shapes: Mapping[str, Dims]) -> int | None:
    """The most bytes of inputs, intermediate values and outputs that are alive at once.

    A value lives from the node that computes it to its last reader, inputs and outputs of the graph throughout.
    Views share the memory of what they view; what a subgraph needs inside is not counted.

    Returns:
        Bytes, or None where the shape of a value is unknown.
    """
    graph = model.graph
    owners = _owners(graph, shapes)
    births = _births(graph, owners)
    sizes = {owner: bytes_of(owner, shapes) for owner in births}
    deaths = _deaths(graph, owners, births)
    change = [0] * (len(graph) + 2)
    for owner, birth in births.items():
        size = sizes[owner]
        if size is None:
            return None
        change[birth] += size
        change[deaths[owner] + 1] -= size
    alive = peak = 0
    for step in change:
        alive += step
        peak = max(peak, alive)
    return peak


def least_activation_bytes(model: Model, shapes: Mapping[str, Dims]) -> int:
    """A lower bound of what one run takes for inputs, intermediate values and outputs.

    Open axes count as one, values of unknown rank and what subgraphs need inside not at all. A result may take the
    place of what its node reads last, and whatever only moves data that does not grow is taken for a view.

    Args:
        model: what runs.
        shapes: static shapes by value name, of those values of which more is known than they declare.

    Returns:
        Bytes.
    """
    graph = model.graph
    sizes = {value: least_bytes(value, shapes) for value in _values(graph)}
    owners: dict[Value, Value] = {}
    for node in graph:
        source = node.inputs[0] if node.inputs else None
        if source is not None and _moves_data(node) and sizes[node.outputs[0]] <= sizes.get(source, 0):
            owners[node.outputs[0]] = owners.get(source, source)
    births = _births(graph, owners)
    deaths = _deaths(graph, owners, births)
    change = [0] * (len(graph) + 2)
    for owner, birth in births.items():
        change[birth] += sizes[owner]
        change[deaths[owner]] -= sizes[owner]
    return max(accumulate(change))


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _moves_data(node: Node) -> bool:
    spec = lookup(node.op_type, node.domain)
    return spec is not None and spec.quantization.moves_data


def least_bytes(value: Value, shapes: Mapping[str, Dims]) -> int:
    """The same of one value."""
    dims = shapes.get(value.name or "", value.shape)
    bits = 8 if value.dtype is None or value.dtype.is_string() else value.dtype.bitwidth
    return 0 if dims is None else math.prod(dim for dim in dims if isinstance(dim, int)) * bits // 8


def _owners(graph: Graph, shapes: Mapping[str, Dims]) -> dict[Value, Value]:
    """For each result of a view, the value whose memory it shares."""
    owners: dict[Value, Value] = {}
    for node in graph:
        if node.inputs and node.inputs[0] is not None and _is_view(node, shapes):
            source = node.inputs[0]
            owners[node.outputs[0]] = owners.get(source, source)
    return owners


def _is_view(node: Node, shapes: Mapping[str, Dims]) -> bool:
    spec = lookup(node.op_type, node.domain)
    if spec is None or not _moves_data(node):
        return False
    try:
        return not spec.cost(view_of(node, shapes)).moves
    except UnknownShapeError:
        return False


def _births(graph: Graph, owners: Mapping[Value, Value]) -> dict[Value, int]:
    """Step at which each value that needs memory of its own appears; inputs appear at step 0."""
    births = {value: 0 for value in graph.inputs if not is_constant(value)}
    for step, node in enumerate(graph):
        births |= {
            output: step for output in node.outputs if output.name and output not in owners and not is_constant(output)
        }
    return births


def _deaths(graph: Graph, owners: Mapping[Value, Value], births: Mapping[Value, int]) -> dict[Value, int]:
    """Step after which each value is not needed any more."""
    deaths = dict(births)
    for step, node in enumerate(graph):
        for value in _read_by(node):
            owner = owners.get(value, value)
            if owner in deaths:
                deaths[owner] = step
    for value in (*graph.inputs, *graph.outputs):
        owner = owners.get(value, value)
        if owner in deaths:
            deaths[owner] = len(graph)
    return deaths


def _read_by(node: Node) -> Iterator[Value]:
    """What a node reads, values that its subgraphs capture included."""
    yield from (value for value in node.inputs if value is not None)
    for subgraph in subgraphs_of(node):
        for inner in subgraph:
            yield from _read_by(inner)
