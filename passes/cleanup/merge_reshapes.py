"""Let only the last of several reshapes count.

    Reshape_t(R(x)) = Reshape_t(x)      for R in Reshape, Flatten, Squeeze, Unsqueeze, and a Transpose that only moves
                                        axes of size 1
    Squeeze_a(Unsqueeze_a(x)) = x

Reshapes keep the elements in order, so what lies between does not matter once the final shape is known on its own: a
constant target without zeros (0 copies a size of the operand, unless ``allowzero``), or an inferred shape with at most
one unknown size, which becomes -1. A Flatten, Squeeze or Unsqueeze at the end is written as a Reshape then.

Left alone: an inner reshape with another reader (nothing would be saved), and shapes with a size of 0.
Operator sets before 5 are refused: they express the target as an attribute.
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
    dims_of,
    input_of,
    int_attribute,
    producer,
)
from graphpress.manager.contract import Context, RewritePass
from graphpress.passes._operands import constant_ints, ints_operand, is_private, keeps_order
from graphpress.passes.cleanup._forward import forward, pass_through

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class MergeReshapes(RewritePass):
    """Lossless: the same elements in the same order."""

    name: ClassVar[str] = "merge_reshapes"
    root_ops: ClassVar[tuple[str, ...]] = RESHAPES

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Before opset 5 a Reshape has no target input."""
        if model.opset_imports.get("", 1) < 5:
            return Refusal(self.name, "operator sets before 5 express shapes as attributes", "convert to a newer opset")
        return None

    def match(self, node: Node) -> Match | Refusal | None:
        """Find a reshape of a reshape."""
        middle = input_of(node, 0)
        first = producer(middle, *RESHAPES, "Transpose")
        if first is None or middle is None or not is_private(middle) or input_of(first, 0) is None:
            return None
        if first.op_type == "Transpose" and not keeps_order(first):
            return None
        if _undoes(first, node):
            undone = pass_through(node, first.inputs[0])  # type: ignore[arg-type]  # present, see above
            if undone is not None:
                return undone
        target = _target(node)
        return None if target is None else Match(node=node, first=first, target=target)

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Reshape what the first reshape reads."""
        if not hasattr(match, "target"):
            first = match.node.inputs[0].producer()
            forward(match, edit)
            edit.remove(first)
            return
        last = match.node
        if last.op_type == "Reshape" and constant_ints(last.inputs[1]) == match.target:
            edit.set_input(last, 0, match.first.inputs[0])
        else:
            last = _as_reshape(match, edit)
        edit.remove(match.first)


def _as_reshape(match: Match, edit: Editor) -> Node:
    old = match.node
    target = edit.add_constant_for(old, np.array(match.target, np.int64), f"{old.outputs[0].name}_shape")
    new = edit.add_node("Reshape", [match.first.inputs[0], target], before=old)
    edit.copy_type(old.outputs[0], new.outputs[0])
    edit.replace(old.outputs[0], new.outputs[0])
    edit.remove(old)
    return new


def _undoes(first: Node, last: Node) -> bool:
    if (first.op_type, last.op_type) != ("Unsqueeze", "Squeeze"):
        return False
    added, dropped = ints_operand(first, "axes", 1), ints_operand(last, "axes", 1)
    return added is not None and dropped is not None and sorted(added) == sorted(dropped)


def _target(node: Node) -> tuple[int, ...] | None:
    """The shape that ``node`` gives, in terms that do not depend on the shape of its operand."""
    if node.op_type == "Reshape":
        given = constant_ints(input_of(node, 1))
        if given is not None and 0 not in given and int_attribute(node, "allowzero", 0) == 0:
            return given
    dims = dims_of(node.outputs[0])
    if dims is None or 0 in dims or dims.count(None) > 1:
        return None
    return tuple(-1 if dim is None else dim for dim in dims)
