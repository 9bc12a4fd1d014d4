"""Fold a BatchNormalization into the linear layer that feeds it, or into the one that it feeds.

    BN(layer(x, W, b)) = layer(x, W·s, (b - μ)·s + β)             with  s = γ / √(σ² + ε)
    layer(BN(x), W, b) = layer(x, W·s, b + Σ W·(β - μ·s))         where no padding hides the shift

Layers are Conv, ConvTranspose, Gemm and MatMul of matrices. Refuses when a statistic or a weight is not constant,
when the layer's result or its weight is read elsewhere, when the node is in training mode, and when the folded
weights leave the range of their type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.analysis.linear import ChannelAffine
from graphpress.ir import (
    Editor,
    Match,
    Node,
    Refusal,
    constant,
    first_non_constant,
    float_attribute,
    int_attribute,
    opset_of,
)
from graphpress.manager.contract import RewritePass
from graphpress.passes.fusion._linear import Neighbor, fold, rewrite

OPSET_WITHOUT_TEST_MODE = 7
"""From here on a BatchNormalization computes for inference unless ``training_mode`` is set."""


@dataclass(frozen=True)
class FoldBatchNorm(RewritePass):
    """Lossless up to rounding: one multiply-add for each element less at run time."""

    name: ClassVar[str] = "fold_batch_norm"
    root_ops: ClassVar[tuple[str, ...]] = ("BatchNormalization",)

    def match(self, node: Node) -> Match | Refusal | None:
        """Fits a normalization for inference next to a linear layer over the same channels."""
        source = node.inputs[0]
        return None if source is None else fold(node, source, lambda neighbor: _affine(node, neighbor))

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Change the layer's constants and drop the normalization."""
        rewrite(match, edit)


def _affine(norm: Node, neighbor: Neighbor) -> ChannelAffine | Refusal | None:
    if neighbor.op.node.op_type == "MatMul" and neighbor.rank != 2:
        return None
    return statistics(norm)


def statistics(norm: Node) -> ChannelAffine | Refusal:
    """What a normalization for inference does to each channel."""
    if missing := first_non_constant(norm.inputs[1:]):
        return Refusal.at(missing, "the statistic is not constant", "run fold_constants first")
    if _trains(norm):
        return Refusal.at(norm, "is in training mode", "export the model for inference: model.eval()")
    if not int_attribute(norm, "spatial", 1):
        return Refusal.at(norm, "has statistics of its own for each position (spatial=0)")
    scale, bias, mean, variance = (np.asarray(constant(value), dtype=np.float64) for value in norm.inputs[1:5])
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = scale / np.sqrt(variance + float_attribute(norm, "epsilon", 1e-5))
    return ChannelAffine(scale, bias - mean * scale)


def _trains(norm: Node) -> bool:
    if int_attribute(norm, "training_mode", 0) or any(output.uses() for output in norm.outputs[1:]):
        return True
    return (opset_of(norm) or OPSET_WITHOUT_TEST_MODE) < OPSET_WITHOUT_TEST_MODE and not int_attribute(
        norm, "is_test", 0
    )
