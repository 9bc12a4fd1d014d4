"""Fuse a root-mean-square normalization that is written out into one operator.

    x/√(mean(x²) + ε)·γ = RMSNormalization(x, γ)         over the last axes

γ may be missing; a Cast to float32 ahead and back behind the division is what the operator does by itself.
Refuses before opset 23, when an inner value is read elsewhere, and without γ where the size of the axes is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Editor, Match, Node, Refusal, Value
from graphpress.passes.fusion import _normalize as normalize
from graphpress.passes.fusion._operator import OperatorFusion
from graphpress.passes.fusion.fuse_layer_norm import center


@dataclass(frozen=True)
class FuseRmsNorm(OperatorFusion):
    """Lossless up to rounding: two passes over the tensor instead of six."""

    name: ClassVar[str] = "fuse_rms_norm"
    root_ops: ClassVar[tuple[str, ...]] = ("Div", "Mul")
    emits: ClassVar[str | None] = "RMSNormalization"
    opset: ClassVar[int] = 23

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize the division of a value by its root mean square, then what is behind it."""
        normalization = normalize.root_mean_square_division(node)
        if normalization is None or center(normalization.value, normalization.axis) is not None:
            return None
        normalize.look_past_casts(normalization)
        normalize.take_scale(normalization)
        return normalize.as_match(normalization)

    def operands(self, match: Match, edit: Editor) -> list[Value]:
        """The normalized value, the scale and the bias."""
        return normalize.operands(edit, match.normalization, match.ones)
