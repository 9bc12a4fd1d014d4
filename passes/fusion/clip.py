"""Join clippings that follow each other into one Clip.

    min(max(x, a), b) = min(relu(x), b) = clip(clip(x, …), …) = Clip(x, low, high)

Constants only. A single Relu, Min, Max or Clip stays as it is. Refuses when an inner value is read elsewhere and before
opset 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.ir import DataType, Editor, Match, Node, Refusal, opset_of
from graphpress.passes.fusion._algebra import clamp
from graphpress.passes.fusion._operator import OperatorFusion

LIMITS_ARE_INPUTS = 11


@dataclass(frozen=True)
class Clip(OperatorFusion):
    """Lossless: one pass over the tensor, and a spelling that runtimes fuse into convolutions."""

    name: ClassVar[str] = "clip"
    anchors: ClassVar[tuple[str, ...]] = ("Clip", "Min", "Max", "Relu")
    emits: ClassVar[str | None] = "Clip"
    opset: ClassVar[int] = 6

    def find(self, node: Node) -> Match | Refusal | None:
        """Recognise at least two clippings in a row, of a floating type."""
        seen: list[Node] = []
        found = clamp(node.outputs[0], seen, root=node.outputs[0])
        if (
            found is None
            or len(seen) < 2
            or found.value.dtype not in (DataType.FLOAT, DataType.FLOAT16, DataType.DOUBLE)
        ):
            return None
        return Match(end=node, nodes=seen, inputs=[found.value], attributes={}, low=found.low, high=found.high)

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Spell the limits as the operator set wants them: inputs, or attributes before opset 11."""
        limits = {name: limit for name, limit in (("min", match.low), ("max", match.high)) if not math.isinf(limit)}
        if (opset_of(match.end) or 0) < LIMITS_ARE_INPUTS:
            match.attributes.update(limits)
        else:
            dtype = match.inputs[0].dtype.numpy()
            for name in ("min", "max"):
                limit = limits.get(name)
                stem = f"{match.end.name or 'Clip'}_{name}"
                match.inputs.append(
                    None if limit is None else edit.add_constant_for(match.end, np.array(limit, dtype), stem)
                )
        super().rewrite(match, edit)
