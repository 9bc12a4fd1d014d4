"""Compose two transposes into one.

    Transpose_q(Transpose_p(x)) = Transpose_r(x)      with  r[i] = p[q[i]]

When r is the identity, remove_noop_layout removes what is left. Nothing is refused: the first transpose stays where
others read it, and only the second one changes. A default order is written out first, so an unknown rank is no match.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Editor, Match, Node, Refusal, input_of, producer
from graphpress.ir.encoding import is_annotated, is_encoded
from graphpress.manager.contract import RewritePass
from graphpress.passes._operands import is_unread, permutation


@dataclass(frozen=True)
class MergeTransposes(RewritePass):
    """Lossless: the data moves once instead of twice."""

    name: ClassVar[str] = "merge_transposes"
    root_ops: ClassVar[tuple[str, ...]] = ("Transpose",)

    def match(self, node: Node) -> Match | Refusal | None:
        """Find a transpose of a transpose."""
        first = producer(input_of(node, 0), "Transpose")
        if first is None or is_encoded(first.outputs[0]) or is_annotated(first) or is_annotated(node):
            return None
        inner = permutation(first)
        outer = permutation(node) or (None if inner is None else tuple(reversed(range(len(inner)))))
        if inner is None or outer is None or input_of(first, 0) is None:
            return None
        return Match(node=node, first=first, order=[inner[axis] for axis in outer])

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Let the second read what the first reads."""
        edit.set_input(match.node, 0, match.first.inputs[0])
        edit.set_attributes(match.node, perm=match.order)
        if is_unread(match.first):
            edit.remove(match.first)
