"""Leave out initial states of recurrent layers that are zero anyway.

    LSTM(x, W, R, B, , 0, 0) = LSTM(x, W, R, B)      GRU and RNN likewise

A state is known to be zero when it is a constant of zeros, or a zero that Expand or ConstantOfShape spreads over the
batch, as exporters write it. Without it, the shape arithmetic that found the size of the batch is dead. Nothing is
refused: any other state is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir import Editor, Match, Node, Refusal, Value, input_of, producer
from graphpress.ir.encoding import is_encoded
from graphpress.manager.contract import RewritePass
from graphpress.passes._operands import all_equal

STATES = (5, 6)
"""Inputs ``initial_h`` and ``initial_c``."""


@dataclass(frozen=True)
class DropDefaultStates(RewritePass):
    """Lossless: zero is what the operator assumes."""

    name: ClassVar[str] = "drop_default_states"
    root_ops: ClassVar[tuple[str, ...]] = ("GRU", "LSTM", "RNN")

    def match(self, node: Node) -> Match | Refusal | None:
        """Find states that are zero."""
        zero = [index for index in STATES if _is_zero(input_of(node, index))]
        return Match(node=node, zero=zero) if zero else None

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Leave these inputs out."""
        for index in match.zero:
            value = match.node.inputs[index]
            edit.set_input(match.node, index, None)
            edit.drop_if_unused(value)


def _is_zero(value: Value | None) -> bool:
    if value is None or is_encoded(value):
        return False
    if all_equal(value, 0):
        return True
    spread = producer(value, "Expand", "ConstantOfShape")
    if spread is None:
        return False
    if spread.op_type == "Expand":
        return all_equal(input_of(spread, 0), 0)
    fill = spread.attributes.get("value")
    return fill is None or not fill.as_tensor().numpy().any()
