"""Cost of a model: multiply-accumulates, parameters, bytes, peak activation memory, roofline time.

Symbolic dimensions get a size first (batch 1, see ``graphpress.analysis.shapes.concrete_shapes``). Nodes of
subgraphs count once each, however often a loop runs. Nodes whose cost is not known are listed, not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from graphpress.analysis.memory import peak_activation_bytes
from graphpress.analysis.shapes import concrete_shapes
from graphpress.analysis.views import bytes_of, is_weight, shape_of, view_of
from graphpress.ir import (
    DataType,
    Dims,
    Model,
    Node,
    UnknownShapeError,
    Value,
    is_constant,
    is_standard,
    label,
    weight_bytes,
)
from graphpress.ir.encoding import WEIGHT_ONLY, Encoding, compute_request, encoding_of, float_type, read_encoding
from graphpress.ops import Work, lookup
from graphpress.targets import Target


@dataclass(frozen=True)
class LayerCost:
    """Cost of one node.

    Args:
        name: of the node, or of its first output where it has none.
        op: operator.
        macs: multiply-accumulates.
        parameters: elements of the weights it is the first to read.
        bytes: size of those weights.
        operations: element operations that are no multiply-accumulates.
        traffic: bytes it reads and writes, weights included, in the types of their encodings; 0 for views.
        arithmetic: the type it was asked to multiply in; without a request, that of its values.
    """

    name: str
    op: str
    macs: int
    parameters: int
    bytes: int
    operations: int = 0
    traffic: int = 0
    arithmetic: str = "float32"


@dataclass(frozen=True)
class ModelCost:
    """Cost of a model at the given shapes.

    Args:
        parameters: elements of all weights, each counted once.
        macs: multiply-accumulates.
        bytes: size of all constants.
        nodes: number of nodes, those of subgraphs included.
        layers: one entry a node, in graph order, ``Constant`` left out.
        peak_activation_bytes: most bytes alive at once besides constants; None where a shape is unknown.
        unknown: names of nodes whose cost is not known and counted as 0.
    """

    parameters: int
    macs: int
    bytes: int
    nodes: int
    layers: tuple[LayerCost, ...]
    peak_activation_bytes: int | None
    unknown: tuple[str, ...] = ()


def model_cost(model: Model, shapes: Mapping[str, Dims] | None = None) -> ModelCost:
    """What the model costs.

    Args:
        model: the model, not changed.
        shapes: static shapes by value name; ``concrete_shapes(model)`` when not given.
    """
    shapes = concrete_shapes(model) if shapes is None else shapes
    counter = LayerCounter(shapes)
    layers = tuple(counter.layer(node) for node in costed_nodes(model))
    return ModelCost(
        parameters=sum(layer.parameters for layer in layers),
        macs=sum(layer.macs for layer in layers),
        bytes=weight_bytes(model),
        nodes=sum(1 for _ in _nodes(model)),
        layers=layers,
        peak_activation_bytes=peak_activation_bytes(model, shapes),
        unknown=tuple(counter.unknown),
    )


def roofline_seconds(cost: ModelCost, target: Target) -> float | None:
    """Time a target needs at least: each node is bound by arithmetic or by memory traffic, whichever is slower.

    Returns:
        Seconds, or None where the target states no peak rate for float32 or no bandwidth.
    """
    seconds = layer_roofline(target)
    return None if seconds is None else sum(seconds(layer) for layer in cost.layers)


def layer_roofline(target: Target) -> Callable[[LayerCost], float] | None:
    """Seconds that a target needs at least for one node, or None as in ``roofline_seconds``.

    An arithmetic of which the target states no rate counts as float32.
    """
    peaks, bandwidth = target.peak_gmacs, target.bandwidth_gbs * 1e9
    if not peaks.get("float32") or not bandwidth:
        return None
    return lambda layer: max(
        layer.macs / (1e9 * peaks.get(layer.arithmetic, peaks["float32"])), layer.traffic / bandwidth
    )


class LayerCounter:
    """Costs node after node.

    Args:
        shapes: static shapes by value name.
        counted: constants that count no more, since a node before has read them; grows with each node.

    Attributes:
        unknown: names of nodes whose cost is not known.
    """

    def __init__(self, shapes: Mapping[str, Dims], counted: Iterable[Value] = ()) -> None:
        self.shapes = shapes
        self.counted = set(counted)
        self.unknown: list[str] = []

    def layer(self, node: Node) -> LayerCost:
        """What one node costs."""
        work = self._work(node)
        parameters, size = self._weights(node)
        return LayerCost(
            name=label(node),
            op=node.op_type,
            macs=work.macs,
            parameters=parameters,
            bytes=size,
            operations=work.operations,
            traffic=self._traffic(node) if work.moves else 0,
            arithmetic=_arithmetic(node),
        )

    def size(self, node: Node) -> tuple[int, int]:
        """Multiply-accumulates and parameters of one node, in half the time that it takes to say all of it."""
        return self._work(node).macs, self._weights(node)[0]

    def _traffic(self, node: Node) -> int:
        """Bytes of what a node reads and writes, each value once, in the type in which it does."""
        encodings = {value: encoding_of(value) for value in node.outputs}
        encodings |= {value: read_encoding(node, index) for index, value in enumerate(node.inputs) if value is not None}
        floats = float_type(node)
        return sum(
            int((bytes_of(value, self.shapes) or 0) * _bits(value, encoding, floats) // _bits(value, None, None))
            for value, encoding in encodings.items()
        )

    def _work(self, node: Node) -> Work:
        spec = lookup(node.op_type, node.domain)
        if spec is None:
            self.unknown.append(label(node))
            return Work()
        try:
            return spec.cost(view_of(node, self.shapes))
        except (UnknownShapeError, IndexError, ZeroDivisionError):  # shapes that are unknown, or that do not fit
            self.unknown.append(label(node))
            return Work()

    def _weights(self, node: Node) -> tuple[int, int]:
        parameters = size = 0
        for index, value in enumerate(node.inputs):
            if value is None or value in self.counted or not is_constant(value) or not is_weight(node, index, value):
                continue
            self.counted.add(value)
            parameters += math.prod(shape_of(value, self.shapes) or ())
            size += bytes_of(value, self.shapes) or 0
        return parameters, size


def _arithmetic(node: Node) -> str:
    request = compute_request(node)
    return float_type(node) or _own_type(node) if request in (None, WEIGHT_ONLY) else request


def _own_type(node: Node) -> str:
    """The float type of what the node makes or reads as it stands; float32 where that is not known."""
    kinds = (value.dtype for value in (*node.outputs, *node.inputs) if value is not None)
    return next((kind.numpy().name for kind in kinds if kind is not None and kind.is_floating_point()), "float32")


def _bits(value: Value, encoding: Encoding | None, floats: str | None) -> float:
    """Bits of an element of a value as it is encoded, or in the float type of whoever reads or writes it."""
    if encoding is not None:
        return encoding.bits
    if value.dtype in (None, DataType.FLOAT):
        return int(DataType.FLOAT.bitwidth if floats is None else DataType[floats.upper()].bitwidth)
    return 1 if value.dtype is None or value.dtype.is_string() else int(value.dtype.bitwidth)


def costed_nodes(model: Model) -> Iterator[Node]:
    """Nodes that a cost says something of, in graph order: all but ``Constant``."""
    return (node for node in _nodes(model) if not is_standard(node, "Constant"))


def _nodes(model: Model) -> Iterator[Node]:
    """Nodes of the main graph and its subgraphs; bodies of functions belong to the calls."""
    yield from model.graph
    for subgraph in model.graph.subgraphs():
        yield from subgraph
