"""Recurrent layers: the state is one axis, wherever it lies.

Weights hold the state once per gate: W is [directions, gates × state, inputs], R [directions, gates × state, state],
the biases [directions, 2 × gates × state]. A unit of the state goes with its row of every gate, its column of R and its
position in every state and output. Time and directions stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphpress.ir import NodeView
from graphpress.ops.dependency import Axes, Axis
from graphpress.ops.rules import pin_inputs
from graphpress.ops.semantics.recurrent import GATES
from graphpress.ops.shrink import Shrink
from graphpress.ops.spec import Flow, OpSpec, Quantization, Role, Work

_PEEPHOLES = 3
_PER_GATE = 10


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {name: OpSpec(_recurrent, _cost, Quantization(Role.OPAQUE, 1, 3), shrink=_smaller_state) for name in GATES}


def _recurrent(flow: Flow) -> Sequence[Axes | None]:
    data, weight, recurrence = flow.of(0), flow.of(1), flow.of(2)
    state, gates = recurrence[2], GATES[flow.node.op_type]
    flow.classes.unite(data[2], weight[2])
    rows = [(weight[1], gates), (recurrence[1], gates)]
    directions = [weight[0], recurrence[0]]
    for index, count in ((3, 2 * gates), (7, _PEEPHOLES)):
        if flow.node.has(index):
            direction, row = flow.of(index)
            directions.append(direction)
            rows.append((row, count))
    for axis, count in rows:
        _tie_gates(flow, axis, count, state)
    for axis in (*directions, data[_time(flow.node)]):
        flow.pin(axis, "a direction or a step in time")
    pin_inputs(flow, [4], "a length")
    batch = data[1 - _time(flow.node)]
    for index in (5, 6):
        if flow.node.has(index):
            _tie_states(flow, flow.of(index), batch, state)
    return [_result(flow, index, batch, state) for index in range(len(flow.node.output_shapes))]


def _time(node: NodeView) -> int:
    """The axis of the data along which time runs."""
    return node.integer("layout", 0)


def _tie_gates(flow: Flow, axis: Axis, count: int, state: Axis) -> None:
    """Every gate has a row for each unit of the state."""
    for gate in axis.reshape(count, len(state)):
        flow.classes.unite(gate, state)


def _tie_states(flow: Flow, given: Axes, batch: Axis, state: Axis) -> None:
    flow.classes.unite(given[2], state)
    flow.classes.unite(given[1 - _time(flow.node)], batch)
    flow.pin(given[_time(flow.node)], "a direction")


def _result(flow: Flow, index: int, batch: Axis, state: Axis) -> Axes | None:
    """Y is [time, directions, batch, state] or [batch, time, directions, state]; final states lack the time."""
    shape = flow.node.output_shapes[index]
    if shape is None:
        return None
    place = 0 if _time(flow.node) else len(shape) - 2
    fixed = flow.fixed(shape, "a direction or a step in time")
    return tuple({place: batch, len(shape) - 1: state}.get(axis, stays) for axis, stays in enumerate(fixed))


def _smaller_state(shrink: Shrink) -> None:
    if "hidden_size" in shrink.node.attributes:
        shrink.set_attributes(hidden_size=int(np.count_nonzero(shrink.read(2, 2))))


def _cost(node: NodeView) -> Work:
    """Per step, direction and sequence: both weight matrices once, and the gates elementwise."""
    steps = node.input_shape(0)[0] * node.input_shape(0)[1]
    directions, rows, width = node.input_shape(1)
    gates = steps * directions * rows
    return Work(gates * (width + node.input_shape(2)[2]), gates * _PER_GATE)
