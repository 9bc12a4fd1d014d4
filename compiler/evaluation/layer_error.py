"""How far the result of each layer is from that of the float model, in the form that is delivered.

    SQNR = 10 log10( Σ r² / Σ (r - c)² )    in dB, over some elements of some samples

r is the layer's result in the float model and c that in the delivered one, before it is rounded for its readers: what
comes of the layer's weights, and of everything in front of it. Each model runs once, and memory is bounded: of each
result, whatever its size, the graph itself draws as many elements at random.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from graphpress.data import Feed
from graphpress.evaluation.metrics import MAX_SQNR_DB
from graphpress.evaluation.similarity import sqnr
from graphpress.ir import Editor, Model, Node, Value, clone, opset_of, readers
from graphpress.runtime import Session

ELEMENTS = 1 << 14
"""Drawn of each result, with repetition."""
LEAST_OPSET = 10
"""Integer Mod, which takes random numbers into the range of an index, is as old as that."""
_ROUNDS = ("QuantizeLinear", "Cast")
"""What stands between a result and its readers in another type."""
_SATURATES = ("Relu", "Clip")
"""What a quantizer may do in passing, so that its node is not there."""


class Drawn(NamedTuple):
    """Elements of one result.

    Args:
        shape: of the whole.
        elements: those that were drawn.
    """

    shape: tuple[int, ...]
    elements: np.ndarray


def layer_sqnr(
    reference: Model, candidate: Model, simulation: Model, layers: Collection[str], feed: Feed, *, threads: int = 1
) -> dict[str, float]:
    """The SQNR of each layer in dB, by its name; ``MAX_SQNR_DB`` where nothing differs.

    A layer is left out that is not in each model, has other readers than in the reference, so that its result may mean
    something else, or gives a result of another shape; so are all of a model older than ``LEAST_OPSET``.

    Args:
        reference: the float model that the candidate was made of.
        candidate: with encodings.
        simulation: computes what is delivered for the candidate.
        layers: names of nodes.
        feed: what both are run on.
        threads: of the runtime.

    Raises:
        ModelError, DataError: ONNX Runtime cannot run one of them with inner values for outputs.
    """
    reference, simulation = clone(reference), clone(simulation)
    nodes, known = _nodes(reference), _nodes(candidate)
    given = _results(simulation, known)
    names = [name for name in nodes if name in layers and name in given and _reads_alike(nodes[name], known[name])]
    if not names:
        return {}
    wanted = _draw(reference, {name: nodes[name].outputs[0] for name in names}, feed, threads)
    drawn = _draw(simulation, {name: given[name] for name in names}, feed, threads)
    return {name: _sqnr(wanted[name], drawn[name]) for name in names if wanted[name].shape == drawn[name].shape}


def _sqnr(wanted: Drawn, given: Drawn) -> float:
    return float(np.clip(sqnr(wanted.elements, given.elements), -MAX_SQNR_DB, MAX_SQNR_DB))


def _nodes(model: Model) -> dict[str, Node]:
    """The nodes of the main graph whose results can be drawn from, by name."""
    return {node.name: node for node in model.graph if node.name and (opset_of(node) or 0) >= LEAST_OPSET}


def _results(simulation: Model, known: Mapping[str, Node]) -> dict[str, Value]:
    """The value in the simulation that is the result of a node of the candidate, by the name of the node."""
    nodes = _nodes(simulation)
    return {
        name: _end_of(nodes[name], known)
        for name, node in known.items()
        if name in nodes and all(reader.name in nodes or reader.op_type in _SATURATES for reader in _behind(node))
    }


def _end_of(node: Node, known: Mapping[str, Node]) -> Value:
    """The result of a node and of those that were put behind it because the backend writes it in several."""
    behind = _behind(node)
    while len(behind) == 1 and behind[0].name not in known and behind[0].op_type not in _ROUNDS:
        node = behind[0]
        behind = _behind(node)
    return node.outputs[0]


def _reads_alike(reference: Node, candidate: Node) -> bool:
    """Whether two nodes are of one kind, and so are those behind them: nothing was folded into one of them."""
    kinds = [[node.op_type, *(reader.op_type for reader in _behind(node))] for node in (reference, candidate)]
    return kinds[0] == kinds[1]


def _behind(node: Node) -> list[Node]:
    return readers(node.outputs[0])


def _draw(model: Model, values: Mapping[str, Value], feed: Feed, threads: int) -> dict[str, Drawn]:
    """Run a model once, which is changed, and draw from these values, in each model from the same places."""
    edit = Editor(model)
    everything = edit.add_constant(np.array([-1], np.int64), "all_elements")
    places = edit.add_constant(np.random.default_rng(0).integers(0, 1 << 62, ELEMENTS), "places")
    drawn = {name: _drawing(edit, value, everything, places) for name, value in values.items()}
    model.graph.outputs.extend(output for pair in drawn.values() for output in pair)
    answer = Session(model, threads=threads, optimization="none", arena=False).run(feed)
    return {name: _drawn(answer, *outputs) for name, outputs in drawn.items()}


def _drawing(edit: Editor, value: Value, everything: Value, places: Value) -> tuple[Value, Value]:
    """The shape of a value and elements of it, as values of the graph."""
    node = value.producer()
    assert node is not None
    shape = edit.add_node("Shape", [value], after=node)
    flat = edit.add_node("Reshape", [value, everything], after=shape)
    size = edit.add_node("Shape", [flat.outputs[0]], after=flat)
    index = edit.add_node("Mod", [places, size.outputs[0]], after=size)
    elements = edit.add_node("Gather", [flat.outputs[0], index.outputs[0]], after=index)
    return shape.outputs[0], elements.outputs[0]


def _drawn(answer: Mapping[str, np.ndarray], shape: Value, elements: Value) -> Drawn:
    numbers = answer[elements.name or ""].astype(np.float64)
    return Drawn(tuple(answer[shape.name or ""].tolist()), numbers)
