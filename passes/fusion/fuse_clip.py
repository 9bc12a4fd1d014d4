"""Express the minimum or maximum of a value and a number as Clip, the form that runtimes and other rules know.

    max(x, c) = Clip(x, c)        min(x, c) = Clip(x, , c)

Floating types only. Refuses before opset 11, where the limits of Clip are attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.ir import DataType, Editor, Match, Node, Refusal, Value, opset_of
from graphpress.passes.fusion._operands import with_number
from graphpress.passes.fusion._operator import OperatorFusion

CLIPS_DOUBLE = 12
"""The first operator set whose Clip ONNX Runtime computes in double; that of opset 11 is for float alone."""
FLOATING = (DataType.FLOAT, DataType.FLOAT16, DataType.DOUBLE)


@dataclass(frozen=True)
class FuseClip(OperatorFusion):
    """Lossless: two in a row can then be merged into one, and one fused into the convolution before it."""

    name: ClassVar[str] = "fuse_clip"
    root_ops: ClassVar[tuple[str, ...]] = ("Min", "Max")
    operator: ClassVar[str] = "Clip"
    opset: ClassVar[int] = 11
    types: ClassVar[tuple[DataType, ...]] = FLOATING

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognize two operands of which one is a number."""
        joined = with_number(node)
        if joined is None or joined[0].dtype not in FLOATING:
            return None
        if joined[0].dtype == DataType.DOUBLE and (opset_of(node) or 0) < CLIPS_DOUBLE:
            return None
        return Match(end=node, nodes=[node], value=joined[0], limit=joined[1], attributes={})

    def operands(self, match: Match, edit: Editor) -> list[Value | None]:
        """The value and its lower or upper limit."""
        array = np.array(match.limit, match.value.dtype.numpy())
        limit = edit.add_constant_for(match.end, array, f"{match.end.name or match.end.op_type}_limit")
        return [match.value, limit] if match.end.op_type == "Max" else [match.value, None, limit]
