"""Cut along several axes at once.

    Slice_b(Slice_a(x)) = Slice_{a,b}(x)      when a and b cut different axes

Left alone: an inner slice with another reader, bounds that are not constant, and cuts along one axis by both (their
composition depends on sizes that may be unknown). Operator sets before 10 are refused: bounds are attributes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.ir import Editor, Match, Model, Node, Refusal, input_of, producer, rank_of
from graphpress.manager.contract import Context, RewritePass
from graphpress.passes._operands import constant_ints, is_private, normal_axes

Cut = tuple[int, int, int]
"""Start, end and step."""


@dataclass(frozen=True)
class MergeSlices(RewritePass):
    """Lossless: the same elements, copied once."""

    name: ClassVar[str] = "merge_slices"
    root_ops: ClassVar[tuple[str, ...]] = ("Slice",)

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Before opset 10 the bounds are attributes."""
        if model.opset_imports.get("", 1) < 10:
            return Refusal(
                self.name, "operator sets before 10 express bounds as attributes", "convert to a newer opset"
            )
        return None

    def match(self, node: Node) -> Match | Refusal | None:
        """Find a slice of a slice along other axes."""
        middle = input_of(node, 0)
        first = producer(middle, "Slice")
        if first is None or middle is None or not is_private(middle):
            return None
        inner, outer = _cuts(first), _cuts(node)
        if inner is None or outer is None or inner.keys() & outer.keys():
            return None
        return Match(node=node, first=first, cuts=dict(sorted((inner | outer).items())))

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Let the outer slice make all cuts."""
        node, stem = match.node, match.node.outputs[0].name
        starts, ends, steps = zip(*match.cuts.values(), strict=True)
        edit.set_input(node, 0, match.first.inputs[0])
        operands = {"starts": starts, "ends": ends, "axes": tuple(match.cuts), "steps": steps}
        for index, (name, numbers) in enumerate(operands.items(), start=1):
            edit.own_constant(node, index, np.array(numbers, np.int64), f"{stem}_{name}")
        edit.remove(match.first)


def _cuts(node: Node) -> dict[int, Cut] | None:
    """What the slice does, by axis counted from the front; None when it is not known."""
    starts, ends = constant_ints(input_of(node, 1)), constant_ints(input_of(node, 2))
    if starts is None or ends is None:
        return None
    axes = constant_ints(input_of(node, 3)) if input_of(node, 3) is not None else tuple(range(len(starts)))
    steps = constant_ints(input_of(node, 4)) if input_of(node, 4) is not None else (1,) * len(starts)
    if axes is None or steps is None:
        return None
    rank = rank_of(input_of(node, 0))
    if rank is None and any(axis < 0 for axis in axes):
        return None
    return dict(zip(normal_axes(axes, rank or 0), zip(starts, ends, steps, strict=True), strict=True))
