"""Pad once.

    Pad_q(Pad_p(x)) = Pad_{p+q}(x)      both by the same constant, none of them negative

Left alone: an inner pad with another reader, pads that are not constant, other modes than ``constant`` (a reflection of
a reflection is something else). Operator sets before 11 are refused: pads are attributes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.ir import (
    Editor,
    Match,
    Model,
    Node,
    Refusal,
    constant,
    input_of,
    producer,
    string_attribute,
)
from graphpress.manager.contract import Context, RewritePass
from graphpress.passes._operands import constant_ints, is_private


@dataclass(frozen=True)
class MergePads(RewritePass):
    """Lossless: the same border, written once."""

    name: ClassVar[str] = "merge_pads"
    root_ops: ClassVar[tuple[str, ...]] = ("Pad",)

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Before opset 11 the pads are attributes."""
        if model.opset_imports.get("", 1) < 11:
            return Refusal(self.name, "operator sets before 11 express pads as attributes", "convert to a newer opset")
        return None

    def match(self, node: Node) -> Match | Refusal | None:
        """Find a pad of a pad."""
        middle = input_of(node, 0)
        first = producer(middle, "Pad")
        if first is None or middle is None or not is_private(middle):
            return None
        inner, outer = _border(first), _border(node)
        if inner is None or outer is None or inner[0] != outer[0] or len(inner[1]) != len(outer[1]):
            return None
        return Match(node=node, first=first, pads=np.add(inner[1], outer[1]))

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Let the outer pad write the whole border."""
        edit.set_input(match.node, 0, match.first.inputs[0])
        edit.own_constant(match.node, 1, match.pads.astype(np.int64), f"{match.node.outputs[0].name}_pads")
        edit.remove(match.first)


def _border(node: Node) -> tuple[float, tuple[int, ...]] | None:
    """The constant and the widths of a border along all axes; None for any other pad."""
    pads = constant_ints(input_of(node, 1))
    fill = np.zeros(1) if input_of(node, 2) is None else constant(input_of(node, 2))
    if pads is None or fill is None or fill.dtype.kind not in "biuf" or min(pads, default=0) < 0:
        return None
    if string_attribute(node, "mode", "constant") != "constant" or input_of(node, 3) is not None:
        return None
    return float(fill.reshape(-1)[0]), pads
