"""A stack of bidirectional LSTM or GRU layers with a linear output, as for speech or tagging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphpress.ir import Model
from graphpress.models.architecture import Architecture
from graphpress.models.builder import LINEAR_GAIN, Builder

_GATES = {"LSTM": 4, "GRU": 3}


@dataclass(frozen=True, kw_only=True)
class Lstm(Architecture):
    """Layers read the sequence both ways; initial states are zeros made from the run-time batch size.

    Args:
        layers: recurrent layers.
        features: size of the input at each step.
        hidden: state size of each direction.
        classes: size of the output at each step.
        steps: a fixed sequence length, or the name of a dynamic one.
        cell: the recurrent operator.
    """

    layers: int = 2
    features: int = 16
    hidden: int = 32
    classes: int = 10
    steps: int | str = "steps"
    cell: Literal["LSTM", "GRU"] = "LSTM"

    def build(self) -> Model:
        """From ``input`` (N, T, features) to ``logits`` (N, T, classes)."""
        b = self.builder()
        x = b.input("input", [self.batch, self.steps, self.features])
        batch = b.size(x, 0)
        x = b.node("Transpose", x, perm=[1, 0, 2])
        features = self.features
        for layer in range(self.layers):
            with b.scope(f"layers.{layer}"):
                x = self._layer(b, x, features, batch)
            features = 2 * self.hidden
        with b.scope("head"):
            x = b.projection(b.node("Transpose", x, perm=[1, 0, 2]), (features, self.classes))
        b.output(x, "logits", [self.batch, self.steps, self.classes])
        return b.finish()

    def _layer(self, b: Builder, x: str, features: int, batch: str) -> str:
        """One bidirectional layer: (T, N, features) to (T, N, 2 * hidden)."""
        rows = _GATES[self.cell] * self.hidden
        weight = b.weight((2, rows, features), features, LINEAR_GAIN, "weight_ih")
        recurrence = b.weight((2, rows, self.hidden), self.hidden, LINEAR_GAIN, "weight_hh")
        bias = b.parameter("bias", np.zeros((2, 2 * rows)))
        states = [self._zeros(b, batch) for _ in range(2 if self.cell == "LSTM" else 1)]
        reset = 1 if self.cell == "GRU" else None
        y, *_ = b.nodes(
            self.cell, x, weight, recurrence, bias, "", *states,
            outputs=1 + len(states), direction="bidirectional", hidden_size=self.hidden, linear_before_reset=reset,
        )  # fmt: skip
        return b.reshape(b.node("Transpose", y, perm=[0, 2, 1, 3]), [0, 0, 2 * self.hidden])

    def _zeros(self, b: Builder, batch: str) -> str:
        return b.node("Expand", b.literal(0.0), b.sizes([2, batch, self.hidden]))
