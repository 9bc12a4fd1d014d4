"""Fuse a layer normalization that is written out into one operator.

    (x - μ)/√(mean((x - μ)²) + ε)·γ + β = LayerNormalization(x, γ, β)         with  μ = mean(x)  over the last axes

γ and β may be missing; a Cast to float32 ahead and back behind the division is what the operator does by itself.
Refuses before opset 17, when an inner value is read elsewhere, and without γ where the size of the axes is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Editor, Match, Node, Refusal, Value, producer
from graphpress.passes.fusion import _normalize as normalize
from graphpress.passes.fusion._operator import OperatorFusion


@dataclass(frozen=True)
class FuseLayerNorm(OperatorFusion):
    """Lossless up to rounding: two passes over the tensor instead of nine."""

    name: ClassVar[str] = "fuse_layer_norm"
    root_ops: ClassVar[tuple[str, ...]] = ("Div", "Mul")
    emits: ClassVar[str | None] = "LayerNormalization"
    opset: ClassVar[int] = 17

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize the division of a centered value by its root mean square, then what is behind it."""
        normalization = normalize.root_mean_square_division(node)
        centered = None if normalization is None else center(normalization.value, normalization.axis)
        if normalization is None or centered is None:
            return None
        normalization.value, nodes = centered
        normalization.nodes += nodes
        normalize.look_past_casts(normalization)
        normalize.take_scale(normalization)
        if normalization.scale is not None:
            normalize.take_bias(normalization)
        return normalize.as_match(normalization)

    def operands(self, match: Match, edit: Editor) -> list[Value]:
        """The normalized value, the scale and the bias."""
        return normalize.operands(edit, match.normalization, match.ones)


def center(value: Value, axis: int) -> tuple[Value, list[Node]] | None:
    """The x of ``x - mean(x)`` over the axes from ``axis`` on, with the nodes that compute it."""
    sub = producer(value, "Sub")
    mean = None if sub is None else normalize.mean_over_last(sub.inputs[1])
    if sub is None or mean is None or sub.inputs[0] is None or mean.inputs[0] is not sub.inputs[0]:
        return None
    return (sub.inputs[0], [sub, mean]) if normalize.last_axes(mean) == axis else None
