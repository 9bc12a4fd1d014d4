"""Which layers are decomposed, and what is known of each before anything changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from graphpress.analysis.linear import LinearOp, changeable_linear_op
from graphpress.ir import Dims, Model, Node, Refusal, only_reader
from graphpress.ir.encoding import read_encoding
from graphpress.ir.sparsity import sparsity_of
from graphpress.passes.lowrank._chain import ChainCost, Places

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
    def whole(self) -> ChainCost:
        """What it costs as it is."""
        parameters = self.op.matrix_shape[0] * self.op.matrix_shape[1] * self.op.matrix_shape[2]
        positions = self.places.rows
        for size in self.places.written:
            positions *= size
        return ChainCost(parameters, parameters * positions)


def candidates(
    model: Model, shapes: Mapping[str, Dims], left_alone: Callable[[Node], Refusal | None]
) -> tuple[dict[Node, DecomposableLayer], list[Refusal]]:
    """The layers of the main graph that can be decomposed, and why the others cannot."""
    fit, refusals = dict[Node, DecomposableLayer](), list[Refusal]()
    for node in model.graph:
        op = changeable_linear_op(node)
        if op is None:
            continue
        refusal = op if isinstance(op, Refusal) else left_alone(node) or _unfit(op)
        places = None if isinstance(op, Refusal) else Places.of(op, shapes)
        if refusal is not None:
            refusals.append(refusal)
        elif places is None:
            refusals.append(Refusal.at(node, "its shapes are not known", "give --input-shape"))
        elif isinstance(op, LinearOp):
            fit[node] = DecomposableLayer(op, places)
    return fit, refusals


def _unfit(op: LinearOp) -> Refusal | None:
    node, (_, inputs, outputs, *_) = op.node, op.kernel_shape
    if node.op_type == "ConvTranspose":
        return Refusal.at(
            node, "a transposed convolution spreads its input, which no chain here does", "leave it whole"
        )
    if op.groups > 1 and min(inputs, outputs) < MIN_SIZE:
        return Refusal.at(node, "a depthwise convolution has nothing between its channels to decompose")
    if min(inputs, outputs) < MIN_SIZE:
        return Refusal.at(node, "with a single input or output it is of rank one as it is")
    if read_encoding(node, op.weight_index) is not None:
        return Refusal.at(node, "its weight is quantized already", "decompose before quantizing")
    if sparsity_of(op.weight) is not None:
        return Refusal.at(node, "its weight is sparse, which factors are not", "decompose before sparsifying")
    if is_factor(op):
        return Refusal.at(node, "it is a factor of a decomposed layer already")
    return None


def is_factor(op: LinearOp) -> bool:
    """Whether nothing stands between this layer and another one, so that the two multiply to one layer."""
    return _follows(op) or any(
        isinstance(other := changeable_linear_op(use.node), LinearOp)
        and use.idx == 0
        and only_reader(op.result, use.node)
        and op.bias is None
        and _same_kind(op, other)
        for use in op.result.uses()
    )


def _follows(op: LinearOp) -> bool:
    maker = op.data.producer()
    before = None if maker is None else changeable_linear_op(maker)
    return (
        isinstance(before, LinearOp)
        and before.bias is None
        and only_reader(before.result, op.node)
        and _same_kind(before, op)
    )


def _same_kind(first: LinearOp, second: LinearOp) -> bool:
    return first.is_convolution == second.is_convolution
