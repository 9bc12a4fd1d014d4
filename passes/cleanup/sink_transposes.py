"""Take the same transpose off several operands and put it behind the operator.

    f(Transpose_p(x), Transpose_p(y), c) = Transpose_p(f(x, y, c'))      f elementwise,  Transpose_p(c') = c
    Concat_a(Transpose_p(x), Transpose_p(y)) = Transpose_p(Concat_p[a](x, y))

Fires only where at least two transposes vanish for the one that appears. Left alone: operands that are neither
constant nor transposed in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Attr, Editor, Match, Node, Refusal, Value, constant, int_attribute, is_standard, readers
from graphpress.ir.encoding import is_annotated
from graphpress.manager.contract import RewritePass
from graphpress.ops import table
from graphpress.passes.cleanup._layout import can_reorder, follows_layout, reorder_shape, reordered, transposed


@dataclass(frozen=True)
class SinkTransposes(RewritePass):
    """Lossless: the same numbers, moved once instead of several times."""

    name: ClassVar[str] = "sink_transposes"
    root_ops: ClassVar[tuple[str, ...]] = (
        "Concat",
        *(name for name, spec in table().items() if spec.elementwise),
    )

    def match(self, node: Node) -> Match | Refusal | None:
        """Find operands that are all transposed in the same way."""
        if not follows_layout(node) and not (is_standard(node, "Concat") and not is_annotated(node)):
            return None
        transposes = {value: transposed(value) for value in node.inputs if value is not None}
        moved = {value: pair for value, pair in transposes.items() if pair is not None}
        orders = {order for _, order in moved.values()}
        vanishing = [first for value, (first, _) in moved.items() if _reads_alone(node, value)]
        if len(orders) != 1 or len(vanishing) < 2:
            return None
        order = orders.pop()
        if not all(value in moved or can_reorder(value, len(order)) for value in node.inputs):
            return None
        return Match(node=node, moved=moved, order=order, vanishing=vanishing)

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Build the operator on the operands as they were, and one transpose behind it."""
        old, order = match.node, match.order
        operands = [self._operand(value, match, edit) for value in old.inputs]
        attributes: dict[str, Attr | int] = dict(old.attributes)
        if old.op_type == "Concat":
            attributes["axis"] = order[int_attribute(old, "axis", 1)]
        new = edit.add_node(old.op_type, operands, attributes, before=old)
        last = edit.add_node("Transpose", [new.outputs[0]], {"perm": list(order)}, before=old)
        for output in (new.outputs[0], last.outputs[0]):
            edit.copy_type(old.outputs[0], output)
        reorder_shape(new.outputs[0], order)
        edit.replace(old.outputs[0], last.outputs[0])
        edit.remove(old, *match.vanishing)

    def _operand(self, value: Value | None, match: Match, edit: Editor) -> Value | None:
        if value is None:
            return None
        if value in match.moved:
            source: Value = match.moved[value][0].inputs[0]
            return source
        array = constant(value)
        assert array is not None, "match has checked it"
        return edit.add_constant_for(match.node, reordered(array, match.order), value.name or "operand")


def _reads_alone(node: Node, value: Value) -> bool:
    return readers(value) == [node] and not value.is_graph_output()
