"""Which layers are decomposed, and what is known of each before anything changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphpress.analysis.linear import LinearOp, changeable_linear_op, linear_op_of
from graphpress.ir import Dims, Model, Node, Refusal, Value, graphs, ints_attribute, label, static_shape
from graphpress.ir.encoding import read_encoding
from graphpress.ir.sparsity import sparsity_of
from graphpress.passes.lowrank._chain import ChainCost, Places
from graphpress.passes.lowrank._form import ChainStage, Form
from graphpress.passes.lowrank._forms import FORMS, fitting
from graphpress.passes.lowrank._tables import TABLE, gather_of
from graphpress.passes.lowrank._write import is_factor

MIN_SIZE = 2
"""A block with fewer inputs or outputs is of rank one as it is."""


@dataclass(frozen=True)
class DecomposableLayer:
    """A layer that may be decomposed.

    Args:
        op: the layer.
        places: of its kernel.
        gather: what reads a table, for an identity that exposes one: its first factor is multiplied into that.
    """

    op: LinearOp
    places: Places
    gather: Node | None = None

    @property
    def name(self) -> str:
        """That of its result, which no other value has; names of nodes may repeat."""
        return label(self.op.result)

    @property
    def node(self) -> Node:
        """The layer's, or what reads its table."""
        return self.op.node if self.gather is None else self.gather

    @property
    def table(self) -> Value | None:
        """What its first factor is multiplied into; None for other layers."""
        return None if self.gather is None else self.gather.inputs[TABLE]

    @property
    def whole(self) -> ChainCost:
        """What it costs as it is."""
        parameters = math.prod(self.op.matrix_shape)
        if self.table is not None:
            return ChainCost(math.prod(static_shape(self.table) or ()), 0)
        return ChainCost(parameters, parameters * self.places.visited)

    def forms(self, names: Sequence[str]) -> list[Form]:
        """Those of these forms that fit it; the first factor of others could not be multiplied into a table."""
        return [FORMS["svd"]] if self.table is not None else fitting(names, self.op.kernel_shape[3:])

    def cost(self, stages: Sequence[ChainStage]) -> ChainCost:
        """What it costs as a chain."""
        if self.table is None:
            return self.places.cost(stages)
        thin, *others = stages
        rows, _ = static_shape(self.table) or (0, 0)
        cost = self.places.cost(others)
        return replace(cost, parameters=cost.parameters + rows * thin.kernel.shape[2])

    def gains(self, cost: ChainCost) -> bool:
        """Whether such a chain is worth having: of a table that is fewer parameters, for no rows are multiplied now."""
        return cost.saves(self.whole) if self.table is None else cost.parameters < self.whole.parameters


def candidates(
    model: Model, shapes: Mapping[str, Dims], left_alone: Callable[[Node], Refusal | None]
) -> tuple[dict[str, DecomposableLayer], list[Refusal]]:
    """The layers of the main graph that can be decomposed, by the names of their results, and why others cannot."""
    fit, refusals = dict[str, DecomposableLayer](), list[Refusal]()
    for node in model.graph:
        op = changeable_linear_op(node)
        if op is None:
            continue
        layer = op if isinstance(op, Refusal) else _decomposable(op, shapes, left_alone)
        if isinstance(layer, Refusal):
            refusals.append(layer)
        else:
            fit[layer.name] = layer
    return fit, refusals + _inside(model)


def _decomposable(
    op: LinearOp, shapes: Mapping[str, Dims], left_alone: Callable[[Node], Refusal | None]
) -> DecomposableLayer | Refusal:
    return left_alone(gather_of(op) or op.node) or _unfit(op) or _placed(op, shapes)


def _placed(op: LinearOp, shapes: Mapping[str, Dims]) -> DecomposableLayer | Refusal:
    """The layer with the places of its kernel."""
    places = Places.of(op, shapes)
    if places is None:
        return Refusal.at(op.node, "its shapes are not known", "give --input-shape")
    if len(op.weight_shape) > 2 and len(shapes[label(op.data)]) == 1:
        return Refusal.at(op.node, "it multiplies a vector by a stack of matrices", "give the vector a row axis")
    return DecomposableLayer(op, places, gather_of(op))


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
    if ints_attribute(node, "output_shape") is not None:
        return Refusal.at(node, "its `output_shape` says nothing of how stages pad", "state `pads` instead")
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
