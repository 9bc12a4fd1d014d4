"""Linear operators with a constant weight, read as matrix products and as kernels.

    result = data ⊛ weight + bias     becomes, block by block,     result_rows = rows @ matrix + bias

A block is a group of a convolution or an entry of a batched weight. The weight has two views, whatever the operator:

    kernel    [blocks, inputs, outputs, *kernel]     kernel axes kept apart; empty for products
    matrix    [blocks, features, outputs]            features run over (input of the block, kernel position)

A decomposition along channels or kernel axes starts from the first, least squares and quantization from the second.
``graphpress.analysis.linear.rows`` makes the rows. Nothing here changes a model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphpress.ir import (
    Model,
    Node,
    Value,
    constant,
    float_attribute,
    graphs,
    input_of,
    int_attribute,
    is_constant,
    is_standard,
    label,
    static_shape,
)
from graphpress.ops import lookup

CONVOLUTIONS = ("Conv", "ConvTranspose")
LINEAR_OPS = (*CONVOLUTIONS, "Gemm", "MatMul")

DATA = 0
"""Index of the input that carries the data."""


@dataclass(frozen=True)
class LinearOp:
    """``result = weight · data + bias`` with a constant weight.

    Args:
        node: a Conv, ConvTranspose, Gemm or MatMul.
        weight_index: index of the weight among its inputs.
        bias_index: index of the bias, whether or not it is given; None where the operator has none.
        out_axis: axis of the weight along which outputs lie (within a group, for a grouped ConvTranspose).
        in_axis: axis of the weight that is contracted with the data's channels (within a group, for a grouped Conv).
        groups: how many groups the channels fall into.
    """

    node: Node
    weight_index: int
    bias_index: int | None
    out_axis: int
    in_axis: int
    groups: int = 1

    # -- values -----------------------------------------------------------------------------------------------

    @property
    def weight(self) -> Value:
        """The constant that it multiplies by."""
        value = self.node.inputs[self.weight_index]
        assert value is not None
        return value

    @property
    def bias(self) -> Value | None:
        """What it adds, constant or not; None where it adds nothing."""
        return None if self.bias_index is None else input_of(self.node, self.bias_index)

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

    # -- attributes -------------------------------------------------------------------------------------------

    @property
    def is_convolution(self) -> bool:
        """Whether it has a kernel that slides."""
        return self.node.op_type in CONVOLUTIONS

    @property
    def channel_axis(self) -> int:
        """The axis of the channels in the result: from the front for convolutions, from the end for products."""
        return 1 if self.is_convolution else -1

    @property
    def alpha(self) -> float:
        """What the product is multiplied by: 1 but for a Gemm."""
        return float_attribute(self.node, "alpha", 1.0) if self.node.op_type == "Gemm" else 1.0

    @property
    def beta(self) -> float:
        """What the bias is multiplied by: 1 but for a Gemm."""
        return float_attribute(self.node, "beta", 1.0) if self.node.op_type == "Gemm" else 1.0

    @property
    def transposes_weight(self) -> bool:
        """Whether the matrix is stored as [outputs, inputs]: a Gemm with ``transB``."""
        return self.node.op_type == "Gemm" and bool(int_attribute(self.node, "transB", 0))

    # -- shapes -----------------------------------------------------------------------------------------------

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weight as it is stored; a large one is not read for it."""
        tensor = self.weight.const_value if self.weight.is_initializer() else None
        return tuple(self.stored_weight().shape if tensor is None else tensor.shape.numpy())

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Blocks, inputs and outputs of a block, and the kernel's axes."""
        shape = self.weight_shape
        if self.node.op_type == "Conv":
            return self.groups, shape[1], shape[0] // self.groups, *shape[2:]
        if self.node.op_type == "ConvTranspose":
            return self.groups, shape[0] // self.groups, *shape[1:]
        return math.prod(shape[:-2]), shape[self.in_axis], shape[self.out_axis]

    @property
    def matrix_shape(self) -> tuple[int, int, int]:
        """Blocks, features and outputs."""
        blocks, inputs, outputs, *kernel = self.kernel_shape
        return blocks, inputs * math.prod(kernel), outputs

    @property
    def channels_in(self) -> int:
        """How many channels it reads, over all blocks."""
        blocks, inputs, *_ = self.kernel_shape
        return blocks * inputs

    @property
    def channels_out(self) -> int:
        """How many channels it computes, over all blocks."""
        blocks, _, outputs, *_ = self.kernel_shape
        return blocks * outputs

    # -- views of the weight, and of arrays that go with it (masks, scores, importances) ----------------------

    def stored_weight(self) -> np.ndarray:
        """The weight as it is stored."""
        array = constant(self.weight)
        assert array is not None
        return array

    def as_kernel(self, stored: np.ndarray) -> np.ndarray:
        """An array of the weight's shape as ``[blocks, inputs, outputs, *kernel]``; nothing is copied."""
        if self.node.op_type == "Conv":
            grouped = stored.reshape(self.groups, stored.shape[0] // self.groups, *stored.shape[1:])
            return grouped.swapaxes(1, 2)
        if self.node.op_type == "ConvTranspose":
            return stored.reshape(self.groups, stored.shape[0] // self.groups, *stored.shape[1:])
        matrices = stored.T if self.transposes_weight else stored
        return matrices.reshape(-1, *matrices.shape[-2:])

    def from_kernel(self, kernel: np.ndarray) -> np.ndarray:
        """The inverse of ``as_kernel``: the array as the weight is stored, contiguous."""
        swaps = self.node.op_type == "Conv" or self.transposes_weight
        ordered = kernel.swapaxes(1, 2) if swaps else kernel
        return np.ascontiguousarray(ordered).reshape(self.weight_shape)

    def as_matrix(self, stored: np.ndarray) -> np.ndarray:
        """An array of the weight's shape as ``[blocks, features, outputs]``, its numbers as they are."""
        kernel = np.moveaxis(self.as_kernel(stored), 2, -1)
        return kernel.reshape(kernel.shape[0], -1, kernel.shape[-1])

    def from_matrix(self, matrix: np.ndarray) -> np.ndarray:
        """The inverse of ``as_matrix``: the array as the weight is stored, contiguous."""
        blocks, inputs, outputs, *kernel = self.kernel_shape
        return self.from_kernel(np.moveaxis(matrix.reshape(blocks, inputs, *kernel, outputs), -1, 2))

    # -- what it computes -------------------------------------------------------------------------------------

    def matrix(self, weight: np.ndarray | None = None) -> np.ndarray:
        """What the data is multiplied by, ``[blocks, features, outputs]``: the weight with ``alpha`` multiplied in.

        Args:
            weight: in place of the weight, an array of its shape.
        """
        matrix = self.as_matrix(self.stored_weight() if weight is None else weight)
        return matrix if self.alpha == 1.0 else matrix * np.asarray(self.alpha, matrix.dtype)

    def weight_of(self, matrix: np.ndarray) -> np.ndarray:
        """The inverse of ``matrix``: the weight, as it is stored, with which the data is multiplied by this.

        Raises:
            ZeroDivisionError: a Gemm with ``alpha`` 0, whose weight has no influence.
        """
        if self.alpha == 0.0:
            raise ZeroDivisionError(f"alpha of {self.node.name} is 0")
        return self.from_matrix(matrix if self.alpha == 1.0 else matrix / np.asarray(self.alpha, matrix.dtype))

    def bias_rows(self) -> np.ndarray | None:
        """The bias as float64 ``[blocks, outputs]``, ``beta`` multiplied in, zero where it has none.

        None where it is not constant, or (Gemm) differs from row to row.
        """
        blocks, _, outputs = self.matrix_shape
        if self.bias is None:
            return np.zeros((blocks, outputs))
        array = constant(self.bias)
        if array is None or (array.size != 1 and (array.size != blocks * outputs or array.shape[-1] != array.size)):
            return None
        flat = np.broadcast_to(array.astype(np.float64).reshape(-1), (blocks * outputs,))
        return flat.reshape(blocks, outputs) * self.beta


def linear_op_of(node: Node) -> LinearOp | None:
    """The node as a linear operator, or None where it is none, its weight is not constant or has no such groups."""
    if not is_standard(node, *LINEAR_OPS):
        return None
    spec = lookup(node.op_type)
    assert spec is not None
    assert spec.quantization.weight is not None
    assert spec.quantization.channel_axis is not None
    shape, groups = _shape_of_constant(input_of(node, spec.quantization.weight)), int_attribute(node, "group", 1)
    if shape is None or len(shape) < 2 or groups < 1 or shape[0] % groups:
        return None
    rank = len(shape)
    out_axis = spec.quantization.channel_axis(node, rank)
    in_axis = {"Conv": 1, "ConvTranspose": 0, "Gemm": 1 - out_axis, "MatMul": rank - 2}[node.op_type]
    return LinearOp(
        node,
        spec.quantization.weight,
        spec.quantization.bias,
        out_axis,
        in_axis,
        groups,
    )


def _shape_of_constant(value: Value | None) -> tuple[int, ...] | None:
    """The shape of a constant; inside functions values declare none, and only the array knows."""
    if not is_constant(value):
        return None
    shape = static_shape(value)
    array = constant(value) if shape is None else None
    return shape if array is None else array.shape


def linear_ops_of(value: Value) -> list[LinearOp]:
    """The linear operators whose weight this constant is, in the order of its uses."""
    ops = ((linear_op_of(use.node), use.idx) for use in value.uses())
    return [op for op, index in ops if op is not None and op.weight_index == index]


def channels_of(model: Model) -> dict[str, int]:
    """How many outputs each linear operator with a constant weight has, by the node's name."""
    ops = (linear_op_of(node) for graph in graphs(model) for node in graph)
    return {label(op.node): op.channels_out for op in ops if op is not None}
