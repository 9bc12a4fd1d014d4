"""Recurrent layers, differentiable through time. ``graphpress.ops.semantics.recurrent`` defines what they compute."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from graphpress.ops.semantics.recurrent import RecurrentActivation, activations_of, reads_backwards
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext

Function = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]


_FUNCTIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "elu": lambda x, alpha, _: functional.elu(x, alpha),
    "hardsigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "leakyrelu": lambda x, alpha, _: functional.leaky_relu(x, alpha),
    "relu": lambda x, *_: functional.relu(x),
    "scaledtanh": lambda x, alpha, beta: alpha * torch.tanh(beta * x),
    "sigmoid": lambda x, *_: torch.sigmoid(x),
    "softplus": lambda x, *_: functional.softplus(x),
    "softsign": lambda x, *_: functional.softsign(x),
    "tanh": lambda x, *_: torch.tanh(x),
    "thresholdedrelu": lambda x, alpha, _: torch.where(x > alpha, x, 0),
}
"""Activations of x, alpha and beta."""


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "GRU": lambda ctx: _layer(ctx, gru),
        "LSTM": lambda ctx: _layer(ctx, lstm),
        "RNN": lambda ctx: _layer(ctx, rnn),
    }


Instruction = Callable[[Tensor, State], State]
"""One step: the projected input [batch, gates × width] and the state, to the next state, whose first is the output."""


@dataclass(frozen=True)
class RecurrentDirection:
    """One direction of a recurrent layer.

    Args:
        weight: of the input, [gates × width, size].
        recurrence: of the output before, [gates × width, width].
        bias: of the input and of the recurrence, [2 × gates × width], or None.
        peepholes: [3 × width] for the gates i, o, f, or None.
        activations: as many as the operator has.
        linear_before_reset: whether the reset gate (GRU) acts after the matrix product.
        coupled: whether the forget gate (LSTM) is one minus the input gate.
    """

    weight: Tensor
    recurrence: Tensor
    bias: Tensor | None
    peepholes: Tensor | None
    activations: tuple[Function, ...]
    linear_before_reset: bool = False
    coupled: bool = False

    @property
    def biases(self) -> tuple[Tensor | None, Tensor | None]:
        """The bias of the input and that of the recurrence."""
        if self.bias is None:
            return None, None
        first, second = self.bias.chunk(2)
        return first, second

    def project(self, data: Tensor) -> Tensor:
        """What the input [time, batch, size] gives to the gates, for all steps at once."""
        return functional.linear(data, self.weight, self.biases[0])


def rnn(layer: RecurrentDirection) -> Instruction:
    """The step of a plain recurrent layer."""
    (act,) = layer.activations
    bias = layer.biases[1]
    return lambda seen, state: (act(seen + functional.linear(state[0], layer.recurrence, bias)),)


def gru(layer: RecurrentDirection) -> Instruction:
    """The step of a gated recurrent unit (arXiv:1406.1078); gates in the order z, r, n."""
    gate, act = layer.activations
    width = layer.recurrence.shape[-1]
    bias = layer.biases[1]
    gates_bias, act_bias = (None, None) if bias is None else torch.split(bias, [2 * width, width])
    gates_weight, act_weight = torch.split(layer.recurrence, [2 * width, width])

    def step(seen: Tensor, state: State) -> State:
        (hidden,) = state
        gates, candidate = torch.split(seen, [2 * width, width], -1)
        update, reset = gate(gates + functional.linear(hidden, gates_weight, gates_bias)).chunk(2, dim=-1)
        if layer.linear_before_reset:
            candidate = candidate + reset * functional.linear(hidden, act_weight, act_bias)
        else:
            candidate = candidate + functional.linear(reset * hidden, act_weight, act_bias)
        return ((1 - update) * act(candidate) + update * hidden,)

    return step


def lstm(layer: RecurrentDirection) -> Instruction:
    """The step of a long short-term memory with peepholes; gates in the order i, o, f, c."""
    gate, act, act_out = layer.activations
    bias = layer.biases[1]
    zero = layer.recurrence.new_zeros(())
    peep_in, peep_out, peep_forget = (zero,) * 3 if layer.peepholes is None else layer.peepholes.chunk(3)

    def step(seen: Tensor, state: State) -> State:
        hidden, cell = state
        to_in, to_out, to_forget, to_cell = (seen + functional.linear(hidden, layer.recurrence, bias)).chunk(4, dim=-1)
        enter = gate(to_in + peep_in * cell)
        forget = 1 - enter if layer.coupled else gate(to_forget + peep_forget * cell)
        cell = forget * cell + enter * act(to_cell)
        return gate(to_out + peep_out * cell) * act_out(cell), cell

    return step


def through_time(step: Instruction, inputs: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    """Results [time, batch, width] and last state, from projected inputs [time, batch, gates × width]."""
    results = []
    for time, seen in enumerate(inputs):
        after = step(seen, state)
        if lengths is None:
            state = after
            results.append(state[0])
        else:
            alive = (time < lengths)[:, None]
            state = tuple(torch.where(alive, new, old) for new, old in zip(after, state, strict=True))
            results.append(torch.where(alive, state[0], 0))
    return torch.stack(results), state


def _one_way(
    step: Instruction, inputs: Tensor, state: State, lengths: Tensor | None, backward: bool
) -> tuple[Tensor, State]:
    if not backward:
        return through_time(step, inputs, state, lengths)
    results, last = through_time(step, backwards(inputs, lengths), state, lengths)
    return backwards(results, lengths), last


def backwards(data: Tensor, lengths: Tensor | None) -> Tensor:
    """Each sequence of [time, batch, size] from its end to its start; what follows the end stays where it is."""
    if lengths is None:
        return data.flip(0)
    time = torch.arange(len(data), device=data.device)[:, None]
    order = torch.where(time < lengths, lengths - 1 - time, time)
    return data.gather(0, order[:, :, None].expand_as(data))


# -- from the node ----------------------------------------------------------------------------------------------


def _layer(ctx: TranslationContext, make: Callable[[RecurrentDirection], Instruction]) -> Kernel:
    reverse = reads_backwards(ctx.node)
    activations = [tuple(_function(activation) for activation in each) for each in activations_of(ctx.node)]
    batch_first, count = ctx.node.flag("layout"), 2 if make is lstm else 1
    linear, coupled = ctx.node.flag("linear_before_reset"), ctx.node.flag("input_forget")

    def swap(tensor: Tensor) -> Tensor:
        return tensor.transpose(0, 1) if batch_first else tensor

    def run(
        data: Tensor,
        weight: Tensor,
        recurrence: Tensor,
        bias: Tensor | None = None,
        lengths: Tensor | None = None,
        hidden: Tensor | None = None,
        cell: Tensor | None = None,
        peepholes: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        inputs = swap(data)
        zero = data.new_zeros(len(weight), inputs.shape[1], recurrence.shape[-1])
        states = [zero if given is None else swap(given) for given in (hidden, cell)[:count]]
        runs = []
        for at, backward in enumerate(reverse):
            shared = None if bias is None else bias[at]
            peeps = None if peepholes is None else peepholes[at]
            layer = RecurrentDirection(weight[at], recurrence[at], shared, peeps, activations[at], linear, coupled)
            start = tuple(state[at] for state in states)
            runs.append(_one_way(make(layer), layer.project(inputs), start, lengths, backward))
        results, ends = zip(*runs, strict=True)
        whole = torch.stack(results, 1)
        last = (swap(torch.stack(each)) for each in zip(*ends, strict=True))
        return (whole.permute(2, 0, 1, 3) if batch_first else whole, *last)

    return run


def _function(activation: RecurrentActivation) -> Function:
    function, clip = _FUNCTIONS[activation.name], activation.clip
    alpha, beta = activation.alpha or 0.0, activation.beta or 0.0
    if math.isinf(clip):
        return lambda x: function(x, alpha, beta)
    return lambda x: function(x.clamp(-clip, clip), alpha, beta)
