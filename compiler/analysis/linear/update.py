"""Changing the constants of a linear operator: parameters as they are delivered, and new ones, ready to be written.

A weight that carries an encoding is seen rounded, and a new one is encoded anew on a grid of the same kind (see
``graphpress.analysis.linear.requantize``). A mark of zeros is kept where it still holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphpress.analysis.linear.bias import FLOAT_DTYPES, write_bias
from graphpress.analysis.linear.op import LinearOp, linear_op_of
from graphpress.analysis.linear.parameters import LinearParameters
from graphpress.analysis.linear.requantize import as_read, refit, rounded
from graphpress.ir import Editor, Node, Refusal, Value, has_one_use
from graphpress.ir.encoding import AffineEncoding, invalidation_of, read_encoding, set_encoding, static_affine
from graphpress.ir.sparsity import fault_of, set_sparsity, sparsity_of


def changeable_linear_op(node: Node, *, shared: bool = False) -> LinearOp | Refusal | None:
    """The node as a linear operator whose parameters may be replaced, why they may not, or None where it is none.

    Args:
        node: any.
        shared: its weight may have other readers, which the caller changes with it.
    """
    op = linear_op_of(node)
    if op is None:
        return None
    if op.stored_weight().dtype not in FLOAT_DTYPES:
        return Refusal.at(node, "its weight is not of a float type that least squares works in", "recover in float32")
    if not shared and not has_one_use(op.weight):
        return Refusal.at(node, "its weight has another reader, which would see the change")
    encoding = read_encoding(node, op.weight_index)
    if encoding is not None and static_affine(encoding) is None:
        return Refusal.at(node, f"its weight is held as {encoding.label}, which nothing renews when it changes")
    if op.alpha == 0.0:
        return Refusal.at(node, "it multiplies its weight by 0")
    if op.bias_rows() is None:
        return Refusal.at(node, "its bias is not one constant a channel", "run fold_constants first")
    return op


def parameters_of(op: LinearOp) -> LinearParameters:
    """Matrix and bias as they are delivered, the weight rounded where it is encoded.

    Args:
        op: with a bias that is one constant a channel, or none.
    """
    bias = op.bias_rows()
    assert bias is not None
    weight = as_read(op.node, op.weight_index, op.stored_weight())
    return LinearParameters(op.matrix(weight).astype(np.float64), bias)


@dataclass(frozen=True)
class LinearUpdate:
    """New constants of a linear operator, ready to be written.

    Args:
        op: whose they are.
        weight: in the shape and dtype of the model.
        bias: float64 ``[blocks, outputs]``; None to leave it as it is.
        encoding: of the weight.
    """

    op: LinearOp
    weight: np.ndarray
    bias: np.ndarray | None = None
    encoding: AffineEncoding | None = None

    @property
    def matrix(self) -> np.ndarray:
        """``[blocks, features, outputs]`` as it will be delivered, rounded where it is encoded; float64."""
        return self.op.matrix(rounded(self.weight, self.encoding)).astype(np.float64)

    def write(self, edit: Editor, bias_dtype: str = "int32") -> Value:
        """Put weight and bias into the model.

        Args:
            edit: of the model.
            bias_dtype: what the bias of an integer layer is on the target, ``int32`` or a float type.

        Returns:
            The result with the bias: that of the operator, or of the Add behind a product.
        """
        op, sparsity, lost = self.op, sparsity_of(self.op.weight), invalidation_of(self.op.weight)
        own = edit.own_constant(op.node, op.weight_index, self.weight)
        if self.encoding is not None or lost is None:  # an encoding that an earlier edit lost stays on record
            set_encoding(own, self.encoding)
        if sparsity is not None and fault_of(self.weight, sparsity) is None:
            set_sparsity(own, sparsity)
        return op.result if self.bias is None else write_bias(edit, op, self.bias, bias_dtype)


def updated(op: LinearOp, parameters: LinearParameters, *, with_bias: bool = True) -> LinearUpdate:
    """The operator with these parameters, as far as the model can hold them.

    Args:
        op: as ``changeable_linear_op`` gives it.
        parameters: the new ones.
        with_bias: else the bias stays as it is.
    """
    old = op.stored_weight()
    weight = op.weight_of(parameters.matrix).astype(old.dtype)
    encoding = static_affine(read_encoding(op.node, op.weight_index))
    if encoding is not None:
        encoding = refit(encoding, old, weight)
    return LinearUpdate(op, weight, parameters.bias if with_bias else None, encoding)
