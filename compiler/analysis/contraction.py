"""Linear operators with a constant weight, seen as matrix products: where outputs and inputs lie in the weight."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Node, Value, input_of, int_attribute, is_constant, is_standard, rank_of
from graphpress.ops import lookup

DATA = 0
"""Index of the input that carries the data."""


@dataclass(frozen=True)
class Contraction:
    """``result = weight · data + bias`` with a constant weight.

    Args:
        node: a Conv, ConvTranspose, Gemm or MatMul.
        weight: index of the weight among its inputs.
        bias: index of the bias, whether or not it is given; None where the operator has none.
        out_axis: axis of the weight along which outputs lie (within a group, for a grouped ConvTranspose).
        in_axis: axis of the weight that is contracted with the data's channels (within a group, for a grouped Conv).
        groups: how many groups the channels fall into.
    """

    node: Node
    weight: int
    bias: int | None
    out_axis: int
    in_axis: int
    groups: int = 1

    @property
    def kernel(self) -> Value:
        """The weight."""
        value = self.node.inputs[self.weight]
        assert value is not None
        return value


def contraction_of(node: Node) -> Contraction | None:
    """The node as a contraction, or None where it is none or its weight is not constant."""
    if not is_standard(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    spec = lookup(node.op_type)
    assert spec is not None and spec.quantization.weight is not None and spec.quantization.channel_axis is not None
    weight = input_of(node, spec.quantization.weight)
    rank = rank_of(weight)
    if not is_constant(weight) or rank is None or rank < 2:
        return None
    out_axis = spec.quantization.channel_axis(node, rank)
    in_axis = {"Conv": 1, "ConvTranspose": 0, "Gemm": 1 - out_axis, "MatMul": rank - 2}[node.op_type]
    return Contraction(
        node,
        spec.quantization.weight,
        spec.quantization.bias,
        out_axis,
        in_axis,
        int_attribute(node, "group", 1),
    )
