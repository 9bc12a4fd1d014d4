"""Concatenate once.

    Concat(a, Concat(b, c), d) = Concat(a, b, c, d)      along the same axis

Left alone: an inner concatenation with another reader, whose result must exist anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Editor, Match, Node, Refusal, Value, int_attribute, producer, rank_of
from graphpress.manager.contract import RewritePass
from graphpress.passes._operands import is_private


@dataclass(frozen=True)
class MergeConcats(RewritePass):
    """Lossless: the same pieces in the same order, copied once."""

    name: ClassVar[str] = "merge_concats"
    root_ops: ClassVar[tuple[str, ...]] = ("Concat",)

    def match(self, node: Node) -> Match | Refusal | None:
        """Find operands that are concatenations themselves."""
        inner = [value for value in node.inputs if value is not None and _is_part(value, node)]
        return Match(node=node, inner=inner) if inner else None

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Put the pieces in the place of their concatenation."""
        pieces: list[Value | None] = []
        for value in match.node.inputs:
            pieces += value.producer().inputs if value in match.inner else [value]
        for index, piece in enumerate(pieces):
            edit.set_input(match.node, index, piece)
        edit.remove(*(value.producer() for value in match.inner))


def _is_part(value: Value, whole: Node) -> bool:
    part = producer(value, "Concat")
    return part is not None and part.graph is whole.graph and is_private(value) and _axis(part) == _axis(whole)


def _axis(node: Node) -> int:
    """The axis counted from the front where the rank is known; negative axes of unknown ranks compare as they are."""
    axis = int_attribute(node, "axis", 1)
    rank = rank_of(node.outputs[0])
    return axis + rank if axis < 0 and rank is not None else axis
