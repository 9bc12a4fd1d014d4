"""Fold the addition, subtraction, multiplication or division by per-channel constants into a linear layer beside it.

    layer(x, W, b)·s + t = layer(x, W·s, b·s + t)
    layer(x·s + t, W, b) = layer(x, W·s, b + Σ W·t)               where no padding hides the shift

Each node is one of  x·c,  x/c,  x + c,  x - c,  c - x,  -x, folded one after the other. Layers are Conv, ConvTranspose,
Gemm and MatMul by a constant matrix. The number that ends an activation function stays with it. Refuses when the
layer's result or its weight is read elsewhere, when the constant varies along another axis than the channels, and when
the folded weights leave the range of their type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.analysis.linear import ChannelAffine
from graphpress.ir import Editor, Match, Node, Refusal, Value, constant, dims_of, is_constant, label
from graphpress.manager.contract import RewritePass
from graphpress.passes.fusion._linear import Neighbor, fold, is_floating, rewrite
from graphpress.passes.fusion._operator import OperatorFusion
from graphpress.passes.fusion.fuse_gelu import FuseGelu
from graphpress.passes.fusion.fuse_hard_sigmoid import FuseHardSigmoid
from graphpress.passes.fusion.fuse_hard_swish import FuseHardSwish

ACTIVATIONS: tuple[OperatorFusion, ...] = (FuseGelu(), FuseHardSwish(), FuseHardSigmoid())
"""Expressions that runtimes recognize and that may end in a number: without it they would not."""
NEGATION = ChannelAffine(-np.ones(1), np.zeros(1))


@dataclass(frozen=True)
class FoldAffine(RewritePass):
    """Lossless up to rounding: one operation for each element less at run time."""

    name: ClassVar[str] = "fold_affine"
    root_ops: ClassVar[tuple[str, ...]] = ("Mul", "Div", "Add", "Sub", "Neg")

    def match(self, node: Node) -> Match | Refusal | None:
        """Fits a negation, or a variable and a constant, beside a linear layer."""
        if node.op_type == "Neg":
            return None if node.inputs[0] is None else fold(node, node.inputs[0], lambda _: NEGATION)
        first, second = node.inputs
        if first is None or second is None or is_constant(first) == is_constant(second):
            return None
        source, fixed = (first, second) if is_constant(second) else (second, first)
        if fixed is first and node.op_type == "Div":
            return None
        return fold(node, source, lambda neighbor: _affine(node, source, fixed, neighbor))

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Change the layer's constants and drop the operation."""
        rewrite(match, edit)


def _affine(node: Node, source: Value, fixed: Value, neighbor: Neighbor) -> ChannelAffine | Refusal | None:
    array = constant(fixed)
    if array is None or not is_floating(array):
        return None
    negates = node.op_type == "Sub" and fixed is node.inputs[0]
    if neighbor.op.node.op_type == "MatMul" and node.op_type in ("Add", "Sub") and not negates:
        return None  # a matrix product has no bias: nothing would be gained
    if not neighbor.is_before and any(isinstance(rule.find(node), Match) for rule in ACTIVATIONS):
        return None
    by_channel = _by_channel(array, neighbor)
    if by_channel is None:
        return Refusal.at(node, f"{label(fixed)} of shape {list(array.shape)} is not one number for each channel")
    if not neighbor.is_before and not _keeps_shape(source, array, neighbor):
        return Refusal.at(node, f"{label(fixed)} may change the shape of {label(source)}, whose own is unknown")
    return _steps(node, by_channel, negates=negates)


def _steps(node: Node, number: np.ndarray, *, negates: bool) -> ChannelAffine:
    unit, zero = np.ones(1), np.zeros(1)
    if node.op_type == "Mul":
        return ChannelAffine(number, zero)
    if node.op_type == "Div":
        with np.errstate(divide="ignore"):
            return ChannelAffine(1 / number, zero)
    if node.op_type == "Add":
        return ChannelAffine(unit, number)
    return ChannelAffine(-unit, number) if negates else ChannelAffine(unit, -number)


def _by_channel(array: np.ndarray, neighbor: Neighbor) -> np.ndarray | None:
    """The constant as float64 by channel, None when it varies along another axis or would broadcast the result."""
    rank, axis = neighbor.rank, neighbor.op.channel_axis
    if array.ndim > (1 if rank is None else rank):
        return None
    from_end = axis if axis < 0 else axis - (rank or 0)
    along = array.shape[from_end] if -from_end <= array.ndim else 1
    if array.size != along or along not in (1, neighbor.channels):
        return None
    return array.astype(np.float64).reshape(-1)


def _keeps_shape(source: Value, array: np.ndarray, neighbor: Neighbor) -> bool:
    """Whether ``source`` has all channels by itself, not by broadcasting against the constant."""
    dims = dims_of(source)
    if dims is None:
        return array.ndim <= 1 and array.size == 1
    return array.ndim <= len(dims) and (array.size == 1 or dims[neighbor.op.channel_axis] == neighbor.channels)
