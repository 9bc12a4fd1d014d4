"""Recurrent layers: gates, directions and activations.

With σ the gate's activation, τ the cell's, and zero for what is absent:

    RNN:   h = τ(W x + R h + b)
    GRU:   z, r = σ(W x + R h + b);  n = τ(W x + R (r ∘ h) + b)  or, with linear_before_reset,
           n = τ(W x + Wb + r ∘ (R h + Rb));  h = (1 - z) ∘ n + z ∘ h
    LSTM:  i, f = σ(W x + R h + P ∘ c + b);  c = f ∘ c + i ∘ τ(W x + R h + b);
           o = σ(W x + R h + P ∘ c + b);  h = o ∘ τ'(c)

A sequence that is shorter than the longest leaves its state as it is after its end, and its results there are zero.
The reverse direction reads each sequence backwards from its own end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphpress.ir import NodeView
from graphpress.ops.semantics import InvalidAttributeError

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""Gates of each operator: rows of its weights for every unit of the state."""

_DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_NUMBERS: dict[str, tuple[float | None, float | None]] = {
    "affine": (1.0, 0.0),
    "elu": (1.0, None),
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01, None),
    "relu": (None, None),
    "scaledtanh": (1.0, 1.0),
    "sigmoid": (None, None),
    "softplus": (None, None),
    "softsign": (None, None),
    "tanh": (None, None),
    "thresholdedrelu": (1.0, None),
}
"""Defaults of alpha and beta of every activation, None where it has no such number."""

_OF_CELL = 2
"""The place of the activation that reads the cell's state, which is not clipped: ``clip`` bounds sums only."""


@dataclass(frozen=True)
class RecurrentActivation:
    """One activation of one direction.

    Args:
        name: in lower case.
        alpha: its first number, None where it has none.
        beta: its second.
        clip: bound of what it is applied to; infinite for none.
    """

    name: str
    alpha: float | None
    beta: float | None
    clip: float


def reads_backwards(node: NodeView) -> tuple[bool, ...]:
    """For each direction of a layer, whether it reads sequences from their end.

    Raises:
        InvalidAttributeError: there is no such direction.
    """
    direction = node.text("direction", "forward")
    if direction not in _DIRECTIONS:
        raise InvalidAttributeError(f"unknown direction {direction!r}")
    return _DIRECTIONS[direction]


def activations_of(node: NodeView) -> tuple[tuple[RecurrentActivation, ...], ...]:
    """For each direction its activations; they take their numbers from the lists in turn, those that have any.

    Raises:
        InvalidAttributeError: there is no such direction or activation.
    """
    defaults, directions = _DEFAULTS[node.op_type], len(reads_backwards(node))
    names = node.texts("activations") or defaults * directions
    alphas, betas = iter(node.numbers("activation_alpha") or ()), iter(node.numbers("activation_beta") or ())
    clip = node.number("clip", math.inf)
    every = []
    for place, name in enumerate(names):
        if name.lower() not in _NUMBERS:
            raise InvalidAttributeError(f"unknown activation {name!r}")
        alpha, beta = _NUMBERS[name.lower()]
        alpha = None if alpha is None else next(alphas, alpha)
        beta = None if beta is None else next(betas, beta)
        of_cell = place % len(defaults) == _OF_CELL
        every.append(RecurrentActivation(name.lower(), alpha, beta, math.inf if of_cell else clip))
    return tuple(tuple(every[way * len(defaults) :][: len(defaults)]) for way in range(directions))
