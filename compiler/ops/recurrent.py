"""Recurrent layers: axes stay as they are (states go round), the cost is known."""

from __future__ import annotations

from graphpress.ops.rules import opaque
from graphpress.ops.spec import Call, OpSpec, Quantization, Role, Work

_LAYERS = ("RNN", "GRU", "LSTM")
_PER_GATE = 10


def entries() -> list[OpSpec]:
    """The operators of this family."""
    return [OpSpec(name, opaque, _cost, Quantization(Role.OPAQUE, 1, 3)) for name in _LAYERS]


def _cost(call: Call) -> Work:
    """Per step, direction and sequence: both weight matrices once, and the gates elementwise."""
    steps = call.input(0)[0] * call.input(0)[1]
    directions, rows, width = call.input(1)
    gates = steps * directions * rows
    return Work(gates * (width + call.input(2)[2]), gates * _PER_GATE)
