"""Linear operators with a constant weight, seen as matrix products: where outputs and inputs lie in the weight.

    result = data ⊛ weight + bias     becomes, block by block,     result_rows = rows @ matrix + bias

A block is a group of a convolution or an entry of a batched weight. ``graphpress.analysis.rows`` makes the rows; here
are the weight as ``[blocks, features, outputs]`` and the way back. Features run over (channel of the group, kernel
position), outputs over the output channels of the group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphpress.ir import (
    Node,
    Value,
    constant,
    float_attribute,
    input_of,
    int_attribute,
    is_constant,
    is_standard,
    rank_of,
)
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

    @property
    def data(self) -> Value:
        """What it reads."""
        value = self.node.inputs[DATA]
        assert value is not None
        return value

    @property
    def result(self) -> Value:
        """What it computes."""
        return self.node.outputs[0]

    @property
    def channel_axis(self) -> int:
        """The axis of the channels in the result: from the front for convolutions, from the end for products."""
        return 1 if self.is_convolution else -1

    @property
    def is_convolution(self) -> bool:
        """Whether it has a kernel that slides."""
        return self.node.op_type in ("Conv", "ConvTranspose")

    @property
    def scale(self) -> float:
        """What the product is multiplied by: ``alpha`` of a Gemm."""
        return float_attribute(self.node, "alpha", 1.0) if self.node.op_type == "Gemm" else 1.0

    def matrix(self, weight: np.ndarray | None = None) -> np.ndarray:
        """The weight as ``[blocks, features, outputs]``, with ``alpha`` of a Gemm multiplied in.

        Args:
            weight: the array to view so, of the shape of the weight; the weight itself when not given. Masks and other
                arrays that go with the weight are viewed in the same way.
        """
        stored = constant(self.kernel) if weight is None else weight
        assert stored is not None
        matrix = self.view(stored)
        return matrix if self.scale == 1.0 else matrix * np.asarray(self.scale, matrix.dtype)

    def view(self, stored: np.ndarray) -> np.ndarray:
        """An array of the weight's shape as ``[blocks, features, outputs]``, its numbers as they are."""
        if self.node.op_type == "Conv":
            return stored.reshape(self.groups, stored.shape[0] // self.groups, -1).transpose(0, 2, 1)
        if self.node.op_type == "ConvTranspose":
            channels, outputs = stored.shape[0] // self.groups, stored.shape[1]
            grouped = stored.reshape(self.groups, channels, outputs, -1).transpose(0, 1, 3, 2)
            return grouped.reshape(self.groups, -1, outputs)
        if self.node.op_type == "Gemm":
            return (stored.T if int_attribute(self.node, "transB", 0) else stored)[None]
        return stored.reshape(-1, *stored.shape[-2:])

    def stored(self, view: np.ndarray) -> np.ndarray:
        """The inverse of ``view``: an array ``[blocks, features, outputs]`` in the shape of the weight."""
        shape = self.shape
        if self.node.op_type == "Conv":
            return np.ascontiguousarray(view.transpose(0, 2, 1)).reshape(shape)
        if self.node.op_type == "ConvTranspose":
            grouped = view.reshape(self.groups, shape[0] // self.groups, -1, shape[1])
            return np.ascontiguousarray(grouped.transpose(0, 1, 3, 2)).reshape(shape)
        if self.node.op_type == "Gemm":
            return np.ascontiguousarray(view[0].T if int_attribute(self.node, "transB", 0) else view[0])
        return np.ascontiguousarray(view).reshape(shape)

    def weight_of(self, matrix: np.ndarray) -> np.ndarray:
        """The inverse of ``matrix``: the weight, in its shape, whose matrix this is.

        Raises:
            ZeroDivisionError: a Gemm with ``alpha`` 0, whose weight has no say.
        """
        if self.scale == 0.0:
            raise ZeroDivisionError(f"alpha of {self.node.name} is 0")
        return self.stored(matrix if self.scale == 1.0 else matrix / np.asarray(self.scale, matrix.dtype))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""
        stored = constant(self.kernel)
        assert stored is not None
        return tuple(stored.shape)

    @property
    def matrix_shape(self) -> tuple[int, int, int]:
        """Blocks, features and outputs."""
        shape = self.shape
        if self.node.op_type == "Conv":
            return self.groups, math.prod(shape[1:]), shape[0] // self.groups
        if self.node.op_type == "ConvTranspose":
            return self.groups, shape[0] // self.groups * math.prod(shape[2:]), shape[1]
        if self.node.op_type == "Gemm":
            return 1, shape[self.in_axis], shape[self.out_axis]
        return math.prod(shape[:-2]), shape[-2], shape[-1]

    def bias_rows(self) -> np.ndarray | None:
        """The bias of the node as float64 ``[blocks, outputs]``, zero where it has none.

        None where it is not constant, or (Gemm) differs from row to row.
        """
        blocks, _, outputs = self.matrix_shape
        stored = None if self.bias is None else input_of(self.node, self.bias)
        if stored is None:
            return np.zeros((blocks, outputs))
        array = constant(stored)
        if array is None or (array.size != 1 and (array.size != blocks * outputs or array.shape[-1] != array.size)):
            return None
        beta = float_attribute(self.node, "beta", 1.0) if self.node.op_type == "Gemm" else 1.0
        flat = np.broadcast_to(array.astype(np.float64).reshape(-1), (blocks * outputs,))
        return flat.reshape(blocks, outputs) * beta


def contraction_of(node: Node) -> Contraction | None:
    """The node as a contraction, or None where it is none or its weight is not constant."""
    if not is_standard(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    spec = lookup(node.op_type)
    assert spec is not None
    assert spec.quantization.weight is not None
    assert spec.quantization.channel_axis is not None
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


def contractions_of(value: Value) -> list[Contraction]:
    """The linear operators whose weight this constant is, in the order of its uses."""
    found = ((contraction_of(use.node), use.idx) for use in value.uses())
    return [one for one, index in found if one is not None and one.weight == index]
