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
    known, simulated = _nodes(candidate), _nodes(simulation)
    names = [
        name
        for name, node in _nodes(reference).items()
        if name in layers and name in known and name in simulated and _reads_alike(node, known[name])
    ]
    if not names:
        return {}
    wanted, given = (_draw(model, names, feed, threads) for model in (reference, simulation))
    same = [name for name in names if wanted[name].shape == given[name].shape]
    return {name: _bounded(sqnr(wanted[name].elements, given[name].elements)) for name in same}


def _bounded(decibels: float) -> float:
    return float(np.clip(decibels, -MAX_SQNR_DB, MAX_SQNR_DB))


def _nodes(model: Model) -> dict[str, Node]:
    """The nodes of the main graph whose results can be drawn from, by name."""
    return {node.name: node for node in model.graph if node.name and (opset_of(node) or 0) >= LEAST_OPSET}


def _reads_alike(reference: Node, candidate: Node) -> bool:
    """Whether two nodes are of one kind, and so are those behind them: nothing was folded into one of them."""
    pairs = (reference, candidate), *zip(_behind(reference), _behind(candidate), strict=False)
    return len(_behind(reference)) == len(_behind(candidate)) and all(a.op_type == b.op_type for a, b in pairs)


def _behind(node: Node) -> list[Node]:
    return readers(node.outputs[0])


def _draw(model: Model, names: Collection[str], feed: Feed, threads: int) -> dict[str, Drawn]:
    """Run a model once and draw from the results of these nodes, from the same places in each model."""
    copy = clone(model)
    edit, nodes = Editor(copy), _nodes(copy)
    everything = edit.add_constant(np.array([-1], np.int64), "all_elements")
    places = edit.add_constant(np.random.default_rng(0).integers(0, 1 << 62, ELEMENTS), "places")
    drawn = {name: _drawing(edit, nodes[name].outputs[0], everything, places) for name in names}
    copy.graph.outputs.extend(value for pair in drawn.values() for value in pair)
    answer = Session(copy, threads=threads, optimization="none").run(feed)
    return {name: _drawn(answer, *values) for name, values in drawn.items()}


def _drawing(edit: Editor, result: Value, everything: Value, places: Value) -> tuple[Value, Value]:
    """The shape of a result and elements of it, as values of the graph."""
    node = result.producer()
    assert node is not None
    shape = edit.add_node("Shape", [result], after=node)
    flat = edit.add_node("Reshape", [result, everything], after=shape)
    size = edit.add_node("Shape", [flat.outputs[0]], after=flat)
    index = edit.add_node("Mod", [places, size.outputs[0]], after=size)
    elements = edit.add_node("Gather", [flat.outputs[0], index.outputs[0]], after=index)
    return shape.outputs[0], elements.outputs[0]


def _drawn(answer: Mapping[str, np.ndarray], shape: Value, elements: Value) -> Drawn:
    numbers = answer[elements.name or ""].astype(np.float64)
    return Drawn(tuple(answer[shape.name or ""].tolist()), numbers)
