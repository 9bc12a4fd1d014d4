"""Limit once.

    Clip(Clip(x, a, b), c, d) = Clip(x, Clip(a, c, d), Clip(b, c, d))      for a ≤ b, c ≤ d
    Relu is Clip to [0, ∞);  Clip to [0, ∞) is written Relu

Left alone: an inner limit with another reader, bounds that are not constant or not in order, and integers, whose
largest value takes the place of ∞. Operator sets before 11 are refused: the bounds are attributes there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.ir import DataType, Editor, Match, Model, Node, Refusal, input_of, producer, scalar
from graphpress.manager.contract import Context, RewritePass
from graphpress.passes._operands import is_private

Bounds = tuple[float, float]
FLOATS = {
    DataType.FLOAT16: np.dtype(np.float16),
    DataType.FLOAT: np.dtype(np.float32),
    DataType.DOUBLE: np.dtype(np.float64),
}


@dataclass(frozen=True)
class MergeClips(RewritePass):
    """Lossless: the bounds are combined exactly, without arithmetic."""

    name: ClassVar[str] = "merge_clips"
    root_ops: ClassVar[tuple[str, ...]] = ("Clip", "Relu")

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Before opset 11 the bounds are attributes."""
        if model.opset_imports.get("", 1) < 11:
            return Refusal(
                self.name, "operator sets before 11 express bounds as attributes", "convert to a newer opset"
            )
        return None

    def match(self, node: Node) -> Match | Refusal | None:
        """Find a limit on a limited value."""
        middle = input_of(node, 0)
        first = producer(middle, "Clip", "Relu")
        if first is None or middle is None or not is_private(middle) or middle.dtype not in FLOATS:
            return None
        inner, outer = _bounds(first), _bounds(node)
        if inner is None or outer is None or input_of(first, 0) is None:
            return None
        bounds = tuple(min(max(bound, outer[0]), outer[1]) for bound in inner)
        return Match(node=node, first=first, bounds=bounds, dtype=FLOATS[middle.dtype])

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Put one operator with the combined bounds in the place of both."""
        old, source = match.node, match.first.inputs[0]
        limits = (
            [
                None
                if bound == absent
                else edit.add_constant_for(old, np.array(bound, match.dtype), f"{old.outputs[0].name}_{end}")
                for bound, end, absent in zip(match.bounds, ("min", "max"), (-math.inf, math.inf), strict=True)
            ]
            if match.bounds != (0.0, math.inf)
            else []
        )
        new = edit.add_node("Clip" if limits else "Relu", [source, *limits], before=old)
        edit.copy_type(old.outputs[0], new.outputs[0])
        edit.replace(old.outputs[0], new.outputs[0])
        edit.remove(old, match.first)


def _bounds(node: Node) -> Bounds | None:
    """Lower and upper bound, infinite where absent; None when they are not known or not in order."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    if {"min", "max"} & node.attributes.keys():
        return None  # a function may be written in an older operator set than the model
    low = -math.inf if input_of(node, 1) is None else scalar(input_of(node, 1))
    high = math.inf if input_of(node, 2) is None else scalar(input_of(node, 2))
    if low is None or high is None or not low <= high:
        return None
    return low, high
