"""The running average of the weights: what a training circles around at a high rate, before the rate falls.

    a ← δ a + (1 − δ) w        δ = min(decay, (1 + k) / (10 + k)) after k steps        (Polyak & Juditsky 1992)

The rising δ forgets the start.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DECAY = 0.99
"""The last hundred steps or so count."""


class WeightAverage:
    """Averages tensors over steps.

    Args:
        weights: what is averaged; the average starts there.

    Attributes:
        values: the average of each.
        steps: how many were taken.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.values = [weight.detach().clone() for weight in weights]
        self.steps = 0

    @torch.no_grad()
    def update(self, weights: Sequence[Tensor]) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        decay = min(DECAY, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.values, [weight.detach() for weight in weights], 1 - decay)

    @torch.no_grad()
    def restart(self, weights: Sequence[Tensor]) -> None:
        """Begin anew from these weights."""
        self.steps = 0
        for value, weight in zip(self.values, weights, strict=True):
            value.copy_(weight)
