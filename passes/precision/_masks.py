"""Large negative numbers in front of a softmax: any that is small enough there does the same.

    softmax(x + m) = softmax(x + max(m, −c))      where  exp(x − c − max x) = 0  in the type computed in

So a mask of −1e9, or of the least float32, is raised to a quarter of the type's range: a constant in place, a computed
one by a Max in float32. A quarter, so that up to four masks add up without becoming infinite, for a softmax over
infinities alone is undefined. A value is a mask when it is below that it does not fit, and all its readers are sums,
selections and data movers that end in a softmax.
"""

from __future__ import annotations

import numpy as np

from graphpress.analysis.islands import moves_data
from graphpress.ir import Editor, Model, Node, Value, constant, is_standard, label
from graphpress.passes.precision._plan import PrecisionPlan
from graphpress.passes.precision._ranges import Ranges

_SHARE = 0.25


def raise_masks(plan: PrecisionPlan, model: Model, ranges: Ranges) -> int:
    """Raise every mask that does not fit, in place; the ranges follow.

    Returns:
        How many values were raised.
    """
    edit, least, ways = Editor(model), -_SHARE * plan.limit, _Ways()
    masks = [value for value in ranges.known if ranges.is_negative_mask(value) and ways.end_in_softmax(value)]
    raised, count = set[Value](), 0
    for value in masks:
        if _carries_imported(value, raised, ranges):
            ranges.known[value] = (-plan.limit / ranges.headroom, ranges.known[value][1])
            raised.add(value)
            continue
        high = ranges.known[value][1]
        new = _raise(value, least, edit)
        plan.types[new], ranges.known[new] = plan.types[value], (least, max(high, least))
        raised.add(new)
        count += 1
    return count


def _carries_imported(value: Value, raised: set[Value], ranges: Ranges) -> bool:
    """Whether the value is made of raised masks, and of what fits anyway, by a node that only carries them."""
    node = value.producer()
    if (
        node is None
        or not _carries(node)
        or raised.isdisjoint(operand for operand in node.inputs if operand is not None)
    ):
        return False
    return all(ranges.excess(operand) is None for operand in node.inputs if operand is not None)


class _Ways:
    """Where values end; each is looked at once."""

    def __init__(self) -> None:
        self._ends: dict[Value, bool] = {}

    def end_in_softmax(self, value: Value) -> bool:
        """Whether all that is done with a value is to add it, select it or move it, and then take a softmax."""
        pending = [value]
        while pending:
            current = pending[-1]
            ahead = None if current in self._ends else self._ahead(current)
            unknown = [other for other in ahead or () if other not in self._ends]
            if unknown:
                pending += unknown
            else:
                self._ends.setdefault(current, ahead is not None and all(self._ends[other] for other in ahead))
                pending.pop()
        return self._ends[value]

    def _ahead(self, value: Value) -> list[Value] | None:
        """The values that carry it on, none behind a softmax; None where something else reads it."""
        ahead: list[Value] = []
        if value.is_graph_output() or not value.uses():
            return None
        for use in value.uses():
            if is_standard(use.node, "Softmax") or (is_standard(use.node, "Attention") and use.idx == 3):
                continue
            if not (_carries(use.node) and (use.node.op_type != "Where" or use.idx > 0)):
                return None
            ahead += use.node.outputs
        return ahead


def _carries(node: Node) -> bool:
    """Whether the node adds, selects or moves masks."""
    return is_standard(node, "Add", "Expand", "Where") or moves_data(node)


def _raise(value: Value, least: float, edit: Editor) -> Value:
    array, uses = constant(value), [(use.node, use.idx) for use in value.uses()]
    bound = np.array(least, np.float32)
    if array is not None:
        lifted = np.where(np.isfinite(array), np.maximum(array, bound), array)
        node, index = uses[0]
        raised = edit.own_constant(node, index, lifted, label(value))
        uses = uses[1:]
    else:
        maker = value.producer()
        before = value.graph[0] if maker is None and value.graph is not None else None
        beside = maker if maker is not None else before
        assert beside is not None
        floor = edit.add_constant_for(beside, bound, f"{label(value)}_least")
        raised = edit.add_node(
            "Max", [value, floor], before=before, after=maker, name=f"{label(value)}_raised"
        ).outputs[0]
        edit.copy_type(value, raised)
    for node, index in uses:
        node.replace_input_with(index, raised)
    return raised
