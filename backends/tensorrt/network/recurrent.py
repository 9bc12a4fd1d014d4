"""Recurrent layers as one loop of TensorRT's, which runs both directions at once.

What they compute stands in ``graphpress.ops.semantics.recurrent``. W x and the bias of all steps are computed before
the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Result, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.backends.tensorrt.network.types import onnx_type
from graphpress.ops.semantics.recurrent import GATES, RecurrentActivation, activations_of, reads_backwards

_WEIGHT, _RECURRENCE, _BIAS, _LENGTHS, _HIDDEN, _CELL, _PEEPHOLES = range(1, 8)

State = tuple[Tensor, ...]


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "GRU": lambda ctx: _recurrent(ctx, _Kind(_gru, 1)),
        "LSTM": lambda ctx: _recurrent(ctx, _Kind(_lstm, 2)),
        "RNN": lambda ctx: _recurrent(ctx, _Kind(_rnn, 1)),
    }


@dataclass(frozen=True)
class _Cell:
    """What the step of all directions needs; its tensors have the directions in front.

    Args:
        ctx: the node.
        directions: how many.
        batch: how many sequences.
        width: of the state.
        recurrence: [directions, gates × width, width].
        bias: of the recurrence where it cannot be added before the loop, [directions, 1, width], else None.
        peepholes: for the gates i, o, f, each [directions, 1, width]; empty where there are none.
        activations: for each direction as many as the operator has.
    """

    ctx: LoweringContext
    directions: int
    batch: Size
    width: int
    recurrence: Tensor
    bias: Tensor | None
    peepholes: tuple[Tensor, ...]
    activations: tuple[tuple[RecurrentActivation, ...], ...]

    def act(self, place: int, x: Tensor) -> Tensor:
        """An activation, by its place in the operator's list, of [directions, batch, size]."""
        activations = [direction[place] for direction in self.activations]
        if len(set(activations)) == 1:
            return activate(self.ctx, activations[0], x)
        parts = [activate(self.ctx, activation, self.way(x, way)) for way, activation in enumerate(activations)]
        return self.ctx.concatenate(parts, 0)

    def way(self, tensor: Tensor, index: int) -> Tensor:
        """One direction of [directions, batch, size], with the axis kept."""
        size = int(tensor.shape[2])
        return self.ctx.slice(tensor, [index, 0, 0], [1, self.batch, size], [1, 1, 1]).get_output(0)

    def gate(self, sums: Tensor, index: int, count: int = 1) -> Tensor:
        """Gates from ``index`` on, of [directions, batch, gates × width]."""
        sizes = [self.directions, self.batch, count * self.width]
        return self.ctx.slice(sums, [0, 0, index * self.width], sizes, [1, 1, 1]).get_output(0)

    def rows(self, first: int, count: int) -> Tensor:
        """The part of the recurrence that feeds some gates."""
        sizes = [self.directions, count * self.width, self.width]
        return self.ctx.slice(self.recurrence, [0, first * self.width, 0], sizes, [1, 1, 1]).get_output(0)

    def add(self, left: Tensor, right: Tensor) -> Tensor:
        """The sum of two tensors."""
        return self.ctx.elementwise("SUM", left, right)

    def times(self, left: Tensor, right: Tensor) -> Tensor:
        """The product, element by element."""
        return self.ctx.elementwise("PROD", left, right)

    def product(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """The state times a transposed weight."""
        return self.ctx.matmul(hidden, weight, flip_b=True)

    def rest(self, tensor: Tensor) -> Tensor:
        """One minus a tensor."""
        return self.ctx.elementwise("SUB", self.ctx.like(1, tensor), tensor)


Step = Callable[[_Cell, Tensor, State], State]
"""From the projected input [directions, batch, gates × width] and the state to the next, whose first is the result."""


@dataclass(frozen=True)
class _Kind:
    """An operator: its step, and how many states it has."""

    step: Step
    states: int


# -- steps ----------------------------------------------------------------------------------------------------


def _rnn(cell: _Cell, seen: Tensor, state: State) -> State:
    return (cell.act(0, cell.add(seen, cell.product(state[0], cell.recurrence))),)


def _gru(cell: _Cell, seen: Tensor, state: State) -> State:
    """Gates in the order z, r, n (arXiv:1406.1078)."""
    (hidden,) = state
    gates = cell.act(0, cell.add(cell.gate(seen, 0, 2), cell.product(hidden, cell.rows(0, 2))))
    update, reset = cell.gate(gates, 0), cell.gate(gates, 1)
    weight = cell.rows(2, 1)
    if cell.ctx.node.integer("linear_before_reset", 0):
        inner = cell.product(hidden, weight)
        inner = cell.times(reset, inner if cell.bias is None else cell.add(inner, cell.bias))
    else:
        inner = cell.product(cell.times(reset, hidden), weight)
    candidate = cell.act(1, cell.add(cell.gate(seen, 2), inner))
    return (cell.add(cell.times(cell.rest(update), candidate), cell.times(update, hidden)),)


def _lstm(cell: _Cell, seen: Tensor, state: State) -> State:
    """Gates in the order i, o, f, c."""
    hidden, memory = state
    sums = cell.add(seen, cell.product(hidden, cell.recurrence))

    def opened(index: int, memory: Tensor) -> Tensor:
        total = cell.gate(sums, index)
        return cell.act(0, cell.add(total, cell.times(cell.peepholes[index], memory)) if cell.peepholes else total)

    enter = opened(0, memory)
    forget = cell.rest(enter) if cell.ctx.node.integer("input_forget", 0) else opened(2, memory)
    memory = cell.add(cell.times(forget, memory), cell.times(enter, cell.act(1, cell.gate(sums, 3))))
    return cell.times(opened(1, memory), cell.act(2, memory)), memory


# -- from the node --------------------------------------------------------------------------------------------


def _recurrent(ctx: LoweringContext, kind: _Kind) -> Sequence[Result]:
    ways = reads_backwards(ctx.node)
    batch_first = ctx.node.flag("layout")
    data = ctx.tensor(0)
    ctx.require_floats(data)
    if batch_first:
        data = ctx.transpose(data, [1, 0, 2])
    time, batch = ctx.sizes(data)[:2]
    recurrence = ctx.tensor(_RECURRENCE)
    width = int(recurrence.shape[2])
    seen, late = _project(ctx, kind, data, len(ways), width)
    peepholes = _peepholes(ctx, len(ways), width)
    cell = _Cell(ctx, len(ways), batch, width, recurrence, late, peepholes, activations_of(ctx.node))
    state = tuple(_start(ctx, index, [len(ways), batch, width], data) for index in (_HIDDEN, _CELL)[: kind.states])
    results, last = _through_time(cell, kind.step, _by_way(cell, seen, time), state, time, ways)
    if batch_first:
        return [ctx.transpose(results, [2, 0, 1, 3]), *(ctx.transpose(state, [1, 0, 2]) for state in last)]
    return [results, *last]


def _project(ctx: LoweringContext, kind: _Kind, data: Tensor, ways: int, width: int) -> tuple[Tensor, Tensor | None]:
    """What inputs and biases give to the gates of every step, [time, batch, directions × gates × width].

    Also the bias that must wait for the step.
    """
    size = GATES[ctx.node.op_type] * width
    weight = ctx.tensor(_WEIGHT)
    flat = ctx.reshape(weight, [1, ways * size, int(weight.shape[2])])
    seen = ctx.matmul(data, flat, flip_b=True)
    bias = ctx.optional(_BIAS)
    if bias is None:
        return seen, None
    late = kind.step is _gru and ctx.node.flag("linear_before_reset")
    early = 2 * width if late else size

    def part(start: int, length: int) -> Tensor:
        return ctx.slice(bias, [0, start], [ways, length], [1, 1]).get_output(0)

    states = part(size, early)
    if late:
        none = ctx.constant_tensor(np.zeros((ways, size - early), onnx_type(bias.dtype).numpy()))
        states = ctx.concatenate([states, none], 1)
    total = ctx.reshape(ctx.elementwise("SUM", part(0, size), states), [1, 1, ways * size])
    rest = ctx.reshape(part(size + early, width), [ways, 1, width]) if late else None
    return ctx.elementwise("SUM", seen, total), rest


def _peepholes(ctx: LoweringContext, ways: int, width: int) -> tuple[Tensor, ...]:
    whole = ctx.optional(_PEEPHOLES)
    if whole is None:
        return ()
    parts = (ctx.slice(whole, [0, index * width], [ways, width], [1, 1]).get_output(0) for index in range(3))
    return tuple(ctx.reshape(part, [ways, 1, width]) for part in parts)


def _start(ctx: LoweringContext, index: int, sizes: Sequence[Size], like: Tensor) -> Tensor:
    """The first state [directions, batch, width]; zero where none is given."""
    given = ctx.optional(index)
    if given is None:
        return ctx.expand(ctx.like(0, like, 3), sizes)
    return ctx.transpose(given, [1, 0, 2]) if ctx.node.integer("layout", 0) else given


def _by_way(cell: _Cell, seen: Tensor, time: Size) -> list[Tensor]:
    """The projected input of each direction, [time, batch, gates × width]."""
    if cell.directions == 1:
        return [seen]
    size = int(seen.shape[2]) // cell.directions
    sizes = [time, cell.batch, size]
    starts = ([0, 0, way * size] for way in range(cell.directions))
    return [cell.ctx.slice(seen, start, sizes, [1, 1, 1]).get_output(0) for start in starts]


# -- the loop -------------------------------------------------------------------------------------------------


def _through_time(
    cell: _Cell, step: Step, seen: Sequence[Tensor], state: State, time: Size, ways: Sequence[bool]
) -> tuple[Tensor, State]:
    """Results [time, directions, batch, width] and last states; ``ways`` holds which directions read backwards."""
    ctx, trt = cell.ctx, cell.ctx.trt
    lengths = ctx.optional(_LENGTHS)
    if lengths is not None:
        lengths = ctx.cast(lengths, trt.DataType.INT32)
        seen = [_backwards(ctx, way, lengths) if back else way for way, back in zip(seen, ways, strict=True)]
    loop = ctx.network.add_loop()
    loop.name = ctx.name
    steps = _scalar(ctx, time)
    ctx.named(loop.add_trip_limit(steps, trt.TripLimit.COUNT), "trip limit")
    turned = [back and lengths is None for back in ways]
    now = [_iterated(ctx, loop, way, back) for way, back in zip(seen, turned, strict=True)]
    recurrences = [ctx.named(loop.add_recurrence(start), "recurrence") for start in state]
    before = tuple(recurrence.get_output(0) for recurrence in recurrences)
    after = step(cell, ctx.concatenate([ctx.unsqueeze(way, [0]) for way in now], 0), before)
    result = after[0]
    if lengths is not None:
        alive = _iterated(ctx, loop, _alive(ctx, time, lengths), False)
        after = tuple(ctx.select(alive, new, old) for new, old in zip(after, before, strict=True))
        result = ctx.select(alive, after[0], ctx.like(0, result))
    for recurrence, following in zip(recurrences, after, strict=True):
        recurrence.set_input(1, following)
    parts = [result] if len(ways) == 1 else [cell.way(result, index) for index in range(len(ways))]
    results = [_gathered(ctx, loop, part, steps, back) for part, back in zip(parts, turned, strict=True)]
    if lengths is not None:
        results = [_backwards(ctx, way, lengths) if back else way for way, back in zip(results, ways, strict=True)]
    ends = (ctx.named(loop.add_loop_output(state, trt.LoopOutput.LAST_VALUE, 0), "loop output") for state in before)
    return ctx.concatenate(results, 1), tuple(end.get_output(0) for end in ends)


def _iterated(ctx: LoweringContext, loop: Any, tensor: Tensor, back: bool) -> Tensor:
    """One step of a tensor [time, ...]."""
    return ctx.named(loop.add_iterator(tensor, 0, back), "iterator").get_output(0)


def _gathered(ctx: LoweringContext, loop: Any, part: Tensor, steps: Tensor, back: bool) -> Tensor:
    """What a tensor of the loop is at every step, in the order of time."""
    kind = ctx.trt.LoopOutput.REVERSE if back else ctx.trt.LoopOutput.CONCATENATE
    output = ctx.named(loop.add_loop_output(part, kind, 0), "loop output")
    output.set_input(1, steps)
    return output.get_output(0)


def _scalar(ctx: LoweringContext, size: Size) -> Tensor:
    """A size as the 32-bit scalar that loops count with."""
    if isinstance(size, int):
        return ctx.scalar(size, ctx.trt.DataType.INT32)
    return ctx.cast(ctx.as_scalar(size), ctx.trt.DataType.INT32)


def _alive(ctx: LoweringContext, time: Size, lengths: Tensor) -> Tensor:
    """Whether a sequence has not ended: [time, 1, batch, 1]."""
    steps = ctx.unsqueeze(ctx.iota(time, lengths.dtype), [1, 2, 3])
    return ctx.elementwise("LESS", steps, ctx.unsqueeze(lengths, [0, 1, 3]))


def _backwards(ctx: LoweringContext, data: Tensor, lengths: Tensor) -> Tensor:
    """Each sequence of [time, ..., batch, size] from its end to its start; what follows the end stays where it is."""
    layer = ctx.add("reverse_sequence", data, lengths)
    layer.batch_axis, layer.sequence_axis = len(data.shape) - 2, 0
    return layer.get_output(0)


# -- activations ----------------------------------------------------------------------------------------------


_KINDS = {
    "elu": "ELU",
    "hardsigmoid": "HARD_SIGMOID",
    "leakyrelu": "LEAKY_RELU",
    "relu": "RELU",
    "scaledtanh": "SCALED_TANH",
    "sigmoid": "SIGMOID",
    "softplus": "SOFTPLUS",
    "softsign": "SOFTSIGN",
    "tanh": "TANH",
    "thresholdedrelu": "THRESHOLDED_RELU",
}
"""TensorRT's names of activations."""


def activate(ctx: LoweringContext, activation: RecurrentActivation, x: Tensor) -> Tensor:
    """An activation of a tensor."""
    if not math.isinf(activation.clip):
        x = ctx.activation("CLIP", x, -activation.clip, activation.clip)
    if activation.name == "affine":
        scaled = ctx.elementwise("PROD", x, ctx.like(activation.alpha or 0.0, x))
        return ctx.elementwise("SUM", scaled, ctx.like(activation.beta or 0.0, x))
    numbers = (1.0, 1.0) if activation.name == "softplus" else (activation.alpha, activation.beta)
    return ctx.activation(_KINDS[activation.name], x, *numbers)
