"""Where a node that is affine by channel can go: into the linear operator before it, or into the one behind it.

What happens to the operator's constants is ``graphpress.analysis.linear.scaling``'s; here is when it may.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphpress.analysis.linear import ChannelAffine, LinearOp, LinearUpdate, linear_op_of, scale_inputs, scale_outputs
from graphpress.analysis.linear.op import CONVOLUTIONS, LINEAR_OPS
from graphpress.analysis.linear.scaling import channel_bias
from graphpress.ir import (
    Editor,
    Match,
    Node,
    Refusal,
    Value,
    constant,
    has_one_use,
    input_of,
    is_standard,
    only_reader,
    producer,
    rank_of,
)
from graphpress.ir.encoding import is_annotated, is_encoded, is_overridden, read_encoding


@dataclass(frozen=True)
class Neighbor:
    """A linear operator beside the node that is to be folded.

    Args:
        op: the operator.
        is_before: it computes what the node reads, else it reads what the node computes.
    """

    op: LinearOp
    is_before: bool

    @property
    def channels(self) -> int:
        """How many channels lie between the two."""
        return self.op.channels_out if self.is_before else self.op.channels_in

    @property
    def rank(self) -> int | None:
        """The number of axes between the two."""
        node = self.op.node
        return rank_of(node.inputs[0]) if node.op_type == "MatMul" else len(self.op.weight_shape)

    def absorb(self, affine: ChannelAffine) -> LinearUpdate | Refusal:
        """Constants of the operator that do the node's work too."""
        return scale_outputs(self.op, affine) if self.is_before else scale_inputs(self.op, affine)


def fold(
    node: Node, source: Value, affine_for: Callable[[Neighbor], ChannelAffine | Refusal | None]
) -> Match | Refusal | None:
    """How the affine ``node`` can go into the operator that computes its ``source``, or into the one that reads it.

    ``affine_for`` is what the node does to the channels of that operator; the match is for ``rewrite``.
    """
    refusal = None
    for neighbor in (_before(node, source), _behind(node)):
        outcome = _absorbed(neighbor, affine_for)
        if isinstance(outcome, LinearUpdate) and is_annotated(node):
            return Refusal.at(node, "it is quantized already, or says how it reads an input", "fuse before quantizing")
        if isinstance(outcome, LinearUpdate) and isinstance(neighbor, Neighbor):
            return Match(node=node, source=source, update=outcome, is_before=neighbor.is_before)
        if isinstance(outcome, Refusal):
            refusal = refusal or outcome
    return refusal


def _absorbed(
    neighbor: Neighbor | Refusal | None, affine_for: Callable[[Neighbor], ChannelAffine | Refusal | None]
) -> LinearUpdate | Refusal | None:
    if not isinstance(neighbor, Neighbor):
        return neighbor
    affine = affine_for(neighbor)
    return neighbor.absorb(affine) if isinstance(affine, ChannelAffine) else affine


def rewrite(match: Match, edit: Editor) -> None:
    """Change the operator's constants and drop the node that they now stand for."""
    result = match.update.write(edit)
    edit.replace(match.node.outputs[0], result if match.is_before else match.source)
    edit.remove(match.node)


def is_floating(array: np.ndarray) -> bool:
    """Whether the array is of a float type that arithmetic is done in, bfloat16 included."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _before(node: Node, value: Value | None) -> Neighbor | Refusal | None:
    """The linear operator that computes ``value`` for ``node`` alone; None when another kind of node does."""
    maker = producer(value, *LINEAR_OPS)
    if maker is None or value is None or maker.graph is not node.graph:
        return None
    op = foldable(maker)
    if isinstance(op, LinearOp) and not only_reader(value, node):
        return Refusal.at(maker, "its result has another reader, which would see the changed values")
    return _unless_encoded(value, op, is_before=True)


def _behind(node: Node) -> Neighbor | Refusal | None:
    """The linear operator that alone reads the result of ``node``, as its first input; None when there is none."""
    result = node.outputs[0]
    if not has_one_use(result):
        return None
    (use,) = result.uses()
    if use.idx != 0 or not is_standard(use.node, *LINEAR_OPS) or use.node.graph is not node.graph:
        return None
    return _unless_encoded(result, foldable(use.node), is_before=False)


def _unless_encoded(between: Value, op: LinearOp | Refusal | None, *, is_before: bool) -> Neighbor | Refusal | None:
    """The neighbor, refused where the value between it and the node is rounded: that happens between the two."""
    if not isinstance(op, LinearOp):
        return op
    if is_encoded(between) or is_overridden(between):
        return Refusal.at(between, "it is quantized between the two", "fuse before quantizing")
    return Neighbor(op, is_before)


def foldable(node: Node) -> LinearOp | Refusal | None:
    """The linear operator, a refusal when its constants cannot be changed, None for a product of two variables."""
    if node.op_type == "MatMul" and rank_of(node.inputs[1]) != 2:
        return None
    stored, op = input_of(node, 1), linear_op_of(node)
    weight = constant(stored)
    if op is None or weight is None or stored is None:
        if node.op_type in CONVOLUTIONS:
            return Refusal.at(stored, "the weight is not constant", "run fold_constants first")
        return None
    if any(read_encoding(node, index) is not None for index in range(1, len(node.inputs))):
        return Refusal.at(node, "its weight or its bias is quantized", "fuse before quantizing")
    if not is_floating(weight):
        return Refusal.at(stored, f"the weight is of type {weight.dtype}, which holds no fractions")
    if not has_one_use(stored):
        return Refusal.at(stored, "the weight has another reader, and a changed copy would make the model larger")
    bias = channel_bias(op)
    return bias if isinstance(bias, Refusal) else op
