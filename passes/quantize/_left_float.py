"""Layers with weights that stay float, each with its reason: a request for integers leaves none without a word."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from graphpress.ir import (
    DataType,
    Graph,
    Model,
    Node,
    Refusal,
    Value,
    graphs,
    input_of,
    is_constant,
    is_standard,
    label,
    producer,
    rank_of,
)
from graphpress.manager.contract import Context
from graphpress.ops import lookup
from graphpress.passes.quantize._weights import weight_use

TABLES = ("Gather", "GatherElements", "GatherND")
"""Operators that look rows of a constant up: embeddings."""
REARRANGES = ("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""What may stand between a constant and the layer whose weight it is."""

Why = Callable[[Node], str]


def left_float(model: Model, context: Context, told: Collection[Refusal], why: Why) -> Iterator[Refusal]:
    """A refusal for every layer with weights that reads them in float and is not told of yet.

    Args:
        model: after its layers were encoded.
        context: of the pass.
        told: the refusals that there are, of layers and of values beside them.
        why: why a layer of the main graph stays float.
    """
    named = {refusal.where for refusal in told}
    for graph in graphs(model):
        for node in graph:
            index = _weight_of(node)
            told_of = {label(item) for item in (node, *node.inputs, *node.outputs)} & named
            use = None if index is None else weight_use(node, index)
            if index is None or told_of or (use is not None and use.encoding is not None):
                continue
            if exclusion := context.exclusion(node):
                yield exclusion
            elif graph is not model.graph:
                yield Refusal.at(node, _inside(graph), "move it into the main graph, or leave it float")
            else:
                yield Refusal.at(node, why(node), "leave it float")


def _weight_of(node: Node) -> int | None:
    """The index of a weight that is constant, as it stands or rearranged; None for what is no layer with weights."""
    if not is_standard(node):
        return None
    return next((index for index in _places(node) if _is_weight(arranged_constant(input_of(node, index)))), None)


def _places(node: Node) -> Sequence[int]:
    """The inputs that can be the weight of a layer."""
    if node.op_type in TABLES:
        return (0,)
    if node.op_type == "Einsum":
        return range(len(node.inputs))
    spec = lookup(node.op_type)
    return () if spec is None or spec.quantization.weight is None else (spec.quantization.weight,)


def _is_weight(value: Value | None) -> bool:
    return value is not None and value.dtype in (DataType.FLOAT, DataType.FLOAT16) and (rank_of(value) or 0) > 1


def arranged_constant(value: Value | None) -> Value | None:
    """The constant that the value is, or of which it is another arrangement; None where there is none."""
    while value is not None and (node := producer(value, *REARRANGES)) is not None:
        value = node.inputs[0]
    return value if is_constant(value) else None


def _inside(graph: object) -> str:
    where = f"the graph {graph.name!r} of another node" if isinstance(graph, Graph) else "a function"
    return f"it lies in {where}, where nothing is observed"
