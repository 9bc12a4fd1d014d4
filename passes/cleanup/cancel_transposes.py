"""Compose two transposes that only elementwise operators part.

    Transpose_q(f(Transpose_p(x), c)) = Transpose_r(f(x, c'))      with  r[i] = p[q[i]],  Transpose_p(c') = c

When r is the identity, as around every layout conversion, remove_noop_layout removes what is left.

Left alone: a chain whose inner results have other readers, operands that are neither constant nor part of the chain,
and, unless r is the identity, a first transpose that others read (nothing would be saved).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Editor, Match, Node, Refusal, Value, constant, input_of, is_constant, producer
from graphpress.manager.contract import RewritePass
from graphpress.passes._operands import is_private, is_unread, permutation
from graphpress.passes.cleanup._layout import can_reorder, follows_layout, reorder_shape, reordered, transposed


@dataclass(frozen=True)
class CancelTransposes(RewritePass):
    """Lossless: the same numbers, moved once or not at all."""

    name: ClassVar[str] = "cancel_transposes"
    root_ops: ClassVar[tuple[str, ...]] = ("Transpose",)

    def match(self, node: Node) -> Match | Refusal | None:
        """Climb from a transpose through elementwise operators to the one before it."""
        outer = permutation(node)
        chain = _chain_above(input_of(node, 0), node)
        above = transposed(_variable(chain[-1])) if chain else None
        if outer is None or above is None or len(outer) != len(above[1]):
            return None  # a constant in between may have more axes
        first, inner = above
        order = [inner[axis] for axis in outer]
        saves = order == sorted(order) or is_private(first.outputs[0])
        operands = [value for link in chain for value in link.inputs if value is not first.outputs[0]]
        inside = {link.outputs[0] for link in chain}
        if not saves or not all(value in inside or can_reorder(value, len(order)) for value in operands):
            return None
        return Match(node=node, chain=chain, first=first, inner=inner, order=order)

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Feed the chain what the first transpose reads; let the second make both moves."""
        for link in match.chain:
            for index, value in enumerate(link.inputs):
                array = constant(value)
                if value is match.first.outputs[0]:
                    edit.set_input(link, index, match.first.inputs[0])
                elif array is not None and array.size != 1:
                    edit.own_constant(link, index, reordered(array, match.inner))
            reorder_shape(link.outputs[0], match.inner)
        edit.set_attributes(match.node, perm=match.order)
        if is_unread(match.first):
            edit.remove(match.first)


def _chain_above(value: Value | None, below: Node) -> list[Node]:
    """Elementwise operators on one variable, from the bottom up, none of whose results has another reader."""
    chain: list[Node] = []
    while value is not None and is_private(value):
        node = producer(value)
        if node is None or node.graph is not below.graph or not follows_layout(node):
            break
        chain.append(node)
        value = _variable(node)
    return chain


def _variable(node: Node) -> Value | None:
    """The one operand that is not constant, None when there are several."""
    variables = [value for value in node.inputs if value is not None and not is_constant(value)]
    return variables[0] if len(variables) == 1 else None
