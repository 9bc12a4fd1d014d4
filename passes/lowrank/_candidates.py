"""Which layers are decomposed, and what is known of each before anything changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from graphpress.analysis.linear import LinearOp, changeable_linear_op, linear_op_of
from graphpress.ir import Dims, Model, Node, Refusal, graphs, label
from graphpress.ir.encoding import read_encoding
from graphpress.ir.sparsity import sparsity_of
from graphpress.passes.lowrank._chain import ChainCost, Places
from graphpress.passes.lowrank._write import is_factor

MIN_SIZE = 2
"""A block with fewer inputs or outputs is of rank one as it is."""


@dataclass(frozen=True)
class DecomposableLayer:
    """A layer that may be decomposed.

    Args:
        op: the layer.
        places: of its kernel.
    """

    op: LinearOp
    places: Places

    @property
    def name(self) -> str:
        """That of its result, which no other value has; names of nodes may repeat."""
        return label(self.op.result)

    @property
    def node(self) -> Node:
        """The layer's."""
        return self.op.node

    @property
    def whole(self) -> ChainCost:
        """What it costs as it is."""
        parameters = math.prod(self.op.matrix_shape)
        return ChainCost(parameters, parameters * self.places.rows * math.prod(self.places.written))


def candidates(
    model: Model, shapes: Mapping[str, Dims], left_alone: Callable[[Node], Refusal | None]
) -> tuple[dict[str, DecomposableLayer], list[Refusal]]:
    """The layers of the main graph that can be decomposed, by the names of their results, and why others cannot."""
    fit, refusals = dict[str, DecomposableLayer](), list[Refusal]()
    for node in model.graph:
        op = changeable_linear_op(node)
        if op is None:
            continue
        layer = op if isinstance(op, Refusal) else left_alone(node) or _unfit(op) or _placed(op, shapes)
        if isinstance(layer, Refusal):
            refusals.append(layer)
        else:
            fit[layer.name] = layer
    return fit, refusals + _inside(model)


def _placed(op: LinearOp, shapes: Mapping[str, Dims]) -> DecomposableLayer | Refusal:
    """The layer with the places of its kernel."""
    places = Places.of(op, shapes)
    if places is None:
        return Refusal.at(op.node, "its shapes are not known", "give --input-shape")
    if len(op.weight_shape) > 2 and len(shapes[label(op.data)]) == 1:
        return Refusal.at(op.node, "it multiplies a vector by a stack of matrices", "give the vector a row axis")
    return DecomposableLayer(op, places)


def _inside(model: Model) -> list[Refusal]:
    """Why layers of subgraphs and functions stay whole."""
    inner = (graph for graph in graphs(model) if graph is not model.graph)
    return [
        Refusal.at(node, "it is inside of a subgraph or function", "inline that first")
        for graph in inner
        for node in graph
        if linear_op_of(node) is not None
    ]


def _unfit(op: LinearOp) -> Refusal | None:
    node, (_, inputs, outputs, *_) = op.node, op.kernel_shape
    if node.op_type == "ConvTranspose":
        return Refusal.at(
            node, "a transposed convolution spreads its input, which no chain here does", "leave it whole"
        )
    if op.groups > 1 and inputs < MIN_SIZE:
        return Refusal.at(node, "a depthwise convolution has nothing between its channels to decompose")
    if min(inputs, outputs) < MIN_SIZE:
        return Refusal.at(node, "with a single input or output it is of rank one as it is")
    if read_encoding(node, op.weight_index) is not None:
        return Refusal.at(node, "its weight is quantized already", "decompose before quantizing")
    if sparsity_of(op.weight) is not None:
        return Refusal.at(node, "its weight is sparse, which factors are not", "decompose before sparsifying")
    if is_factor(node):
        return Refusal.at(node, "it is a factor of a decomposed layer already", "decompose the model as it was before")
    if not np.isfinite(op.stored_weight()).all():
        return Refusal.at(node, "its weight holds infinite or undefined values", "repair the weight")
    return None
