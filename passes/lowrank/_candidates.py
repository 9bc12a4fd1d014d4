"""Which layers are decomposed, and what is known of each before anything changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphpress.analysis.linear import LinearOp, changeable_linear_op, linear_op_of
from graphpress.ir import Dims, Model, Node, Refusal, Value, ints_attribute, label, static_shape
from graphpress.ir.encoding import read_encoding
from graphpress.ir.factors import is_factor
from graphpress.ir.sparsity import sparsity_of
from graphpress.ir.values import with_subgraphs
from graphpress.passes.lowrank._chain import ChainCost, Places
from graphpress.passes.lowrank._form import ChainStage, Form
from graphpress.passes.lowrank._forms import FORMS, fitting
from graphpress.passes.lowrank._problem import LayerProblem, shape_of_problem
from graphpress.passes.lowrank._tables import TABLE, gather_of, heads_of
from graphpress.passes.lowrank._write import has_rows, in_copy

MIN_SIZE = 2
"""A block with fewer inputs or outputs is of rank one as it is."""


@dataclass(frozen=True)
class DecomposableLayer:
    """A layer that may be decomposed.

    Args:
        op: the layer.
        places: of its kernel.
        gather: what reads a table, for an identity that exposes one: its first factor is multiplied into that.
        head_rows: rows that are multiplied by the transposed table, by all heads that are tied to it.
        is_seen: whether data can show what it reads; not inside of a subgraph.
        twins: the other layers of its weight, which become the same chain.
        output_root: square root of how much its outputs matter, ``[blocks, outputs, outputs]``; None for all alike.
    """

    op: LinearOp
    places: Places
    gather: Node | None = None
    head_rows: int = 0
    is_seen: bool = True
    twins: tuple[DecomposableLayer, ...] = ()
    output_root: np.ndarray | None = None

    @property
    def members(self) -> tuple[DecomposableLayer, ...]:
        """Itself and its twins."""
        return (self, *self.twins)

    @property
    def ops(self) -> list[LinearOp]:
        """All linear operators that multiply by its weight."""
        return [member.op for member in self.members]

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
            size = math.prod(static_shape(self.table) or ())
            return ChainCost(size, size * self.head_rows)
        return ChainCost(parameters, parameters * sum(member.places.visited for member in self.members))

    def weighted(self, problem: LayerProblem) -> LayerProblem:
        """Its problem with what its outputs matter."""
        return replace(problem, output_root=self.output_root)

    def forms(self, names: Sequence[str]) -> list[Form]:
        """Those of these forms that fit it; the first factor of others could not be multiplied into a table."""
        if self.table is not None or not all(map(has_rows, self.ops)):
            return [FORMS["svd"]]
        return fitting(names, shape_of_problem(self.op))

    def cost(self, stages: Sequence[ChainStage]) -> ChainCost:
        """What it costs as a chain, the weights of which all twins read."""
        thin, *others = stages
        multiplied = stages if self.table is None else others
        cost = self.places.cost(multiplied)
        macs = sum(member.places.cost(multiplied).macs for member in self.members)
        return replace(cost, macs=macs) if self.table is None else self._with_table(thin, replace(cost, macs=macs))

    def _with_table(self, thin: ChainStage, cost: ChainCost) -> ChainCost:
        """The cost of the products behind a table with that of the thin table, and of its heads."""
        rows, width = static_shape(self.table) or (0, 0) if self.table is not None else (0, 0)
        rank = thin.kernel.shape[2]
        parameters = cost.parameters + rank * (rows + (width if self.head_rows else 0))
        return replace(cost, parameters=parameters, macs=cost.macs + self.head_rows * rank * (rows + width))

    def gains(self, cost: ChainCost, form: Form) -> bool:
        """Whether such a chain is worth having: of a table, and in a form that is for that alone, where it has fewer
        parameters, whatever the products cost.
        """
        counts_all = self.table is None and not form.saves_parameters_alone
        return cost.saves(self.whole) if counts_all else cost.parameters < self.whole.parameters


def candidates(
    model: Model, shapes: Mapping[str, Dims], left_alone: Callable[[Node], Refusal | None]
) -> tuple[dict[str, DecomposableLayer], list[Refusal]]:
    """The layers that can be decomposed, by the names of their results, and why others cannot.

    Those of one weight are one layer, named after the first of them.
    """
    fit, refusals = dict[str, DecomposableLayer](), list[Refusal]()
    for graph in with_subgraphs(model.graph):
        for node in graph:
            op = changeable_linear_op(node, shared=True)
            if op is None:
                continue
            layer = op if isinstance(op, Refusal) else _decomposable(op, shapes, left_alone)
            if isinstance(layer, Refusal):
                refusals.append(layer)
            else:
                fit[layer.name] = replace(layer, is_seen=graph is model.graph)
    shared, apart = _with_twins(fit)
    return shared, refusals + apart + _inside(model)


def layers_in(copy: Model, layers: Mapping[str, DecomposableLayer]) -> dict[str, DecomposableLayer]:
    """The same layers of a copy of the model."""
    nodes = iter(in_copy([op for layer in layers.values() for op in layer.ops], copy))

    def moved(layer: DecomposableLayer) -> DecomposableLayer:
        op = next(nodes)
        return replace(layer, op=op, gather=gather_of(op), twins=tuple(map(moved, layer.twins)))

    return {name: moved(layer) for name, layer in layers.items()}


def _with_twins(layers: Mapping[str, DecomposableLayer]) -> tuple[dict[str, DecomposableLayer], list[Refusal]]:
    """The layers with those of one weight as one, and why some cannot be."""
    readers: dict[Value, list[DecomposableLayer]] = {}
    for layer in layers.values():
        readers.setdefault(layer.op.weight, []).append(layer)
    together, refusals = dict[str, DecomposableLayer](), list[Refusal]()
    for weight, members in readers.items():
        first, *others = members
        if weight.is_graph_output() or len(weight.uses()) > len(members):
            why = "its weight has another reader that is not decomposed, or is a result of the model"
            refusals += [Refusal.at(member.node, why) for member in members]
        elif any(_reading(other.op) != _reading(first.op) for other in others):
            why = "layers that share its weight multiply by it in different ways, and no factors serve them all"
            refusals += [Refusal.at(member.node, why) for member in members]
        else:
            together[first.name] = replace(first, twins=tuple(others))
    return together, refusals


def _reading(op: LinearOp) -> tuple[object, ...]:
    """How a layer multiplies by its weight: alike where the matrices of both are the same."""
    return op.is_convolution, op.kernel_shape, op.in_axis, op.alpha


def _decomposable(
    op: LinearOp, shapes: Mapping[str, Dims], left_alone: Callable[[Node], Refusal | None]
) -> DecomposableLayer | Refusal:
    gather = gather_of(op)
    changed = [op.node] if gather is None else [gather, *heads_of(gather)]
    return next(filter(None, map(left_alone, changed)), None) or _unfit(op) or _placed(op, shapes)


def _placed(op: LinearOp, shapes: Mapping[str, Dims]) -> DecomposableLayer | Refusal:
    """The layer with the places of its kernel."""
    places = Places.of(op, shapes)
    if places is None:
        return Refusal.at(op.node, "its shapes are not known", "give --input-shape")
    if len(op.weight_shape) > 2 and len(shapes[label(op.data)]) == 1:
        return Refusal.at(op.node, "it multiplies a vector by a stack of matrices", "give the vector a row axis")
    gather = gather_of(op)
    if gather is None:
        return DecomposableLayer(op, places)
    heads = [shapes.get(label(head.inputs[0]), ()) for head in heads_of(gather)]
    return DecomposableLayer(op, places, gather, sum(math.prod(shape[:-1]) for shape in heads))


def _inside(model: Model) -> list[Refusal]:
    """Why layers of functions stay whole."""
    return [
        Refusal.at(node, "it is inside of a function, whose calls differ in shapes and data", "inline that first")
        for function in model.functions.values()
        for graph in with_subgraphs(function)
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
