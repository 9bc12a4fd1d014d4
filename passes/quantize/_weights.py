"""Where the constant weight of a layer is read: by the layer itself, or by a Transpose that turns it for the layer.

    y = x · Wᵀ      W the constant, Wᵀ made at run time: a table of embeddings that is the head of the model as well

Integers can be turned like floats, so that the encoding of such a weight belongs to what the Transpose reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import (
    Node,
    Value,
    input_of,
    ints_attribute,
    is_constant,
    is_standard,
    only_reader,
    producer,
    rank_of,
)
from graphpress.ir.encoding import Encoding, read_encoding
from graphpress.ops import lookup
from graphpress.targets import QuantizationPolicy

TURNED = ("MatMul",)
"""Layers whose kernels take a turned weight: runtimes turn its integers when they load the model."""


@dataclass(frozen=True)
class WeightUse:
    """A use of a constant as a weight.

    Args:
        node: what reads the constant: the layer, or a Transpose before it.
        index: of the input that is the constant.
        order: the axis of the constant that becomes each axis of the weight.
    """

    node: Node
    index: int
    order: Sequence[int]

    @property
    def constant(self) -> Value:
        """The constant."""
        value = self.node.inputs[self.index]
        assert value is not None
        return value

    @property
    def encoding(self) -> Encoding | None:
        """The encoding in which the weight is read; None for plain float."""
        return read_encoding(self.node, self.index)

    def has_float_readers(self, policy: QuantizationPolicy) -> bool:
        """Whether nodes that the target has no integers for read the constant too: it would be stored twice."""
        encoded = (*policy.table_ops, *policy.compute_ops)
        return any(use.node is not self.node and use.node.op_type not in encoded for use in self.constant.uses())


def is_weight(layer: Node, index: int) -> bool:
    """Whether the input of a layer is its weight, constant or turned."""
    spec = lookup(layer.op_type)
    return spec is not None and spec.quantization.weight == index and weight_use(layer, index) is not None


def weight_use(layer: Node, index: int) -> WeightUse | None:
    """The use of the constant behind the input of a layer; None where there is none, or other nodes read it turned."""
    value = input_of(layer, index)
    if is_constant(value):
        return WeightUse(layer, index, range(rank_of(value) or 0))
    turn = producer(value, "Transpose") if is_standard(layer, *TURNED) else None
    if turn is None or value is None or not only_reader(value, layer) or not is_constant(turn.inputs[0]):
        return None
    rank = rank_of(turn.inputs[0]) or 0
    return WeightUse(turn, 0, ints_attribute(turn, "perm") or range(rank)[::-1])
