"""What a training is told and what it tells: its source of samples, its loss, its settings, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from graphpress.training.data import Example
from graphpress.training.optimizer import OptimizerName


class ExampleSource(Protocol):
    """Where samples and their targets come from."""

    def batch(self, step: int) -> Sequence[Example]:
        """The samples of a step, a function of the step alone."""
        ...

    def held_out(self) -> Iterator[Example]:
        """The samples on which training is measured."""
        ...


class Loss(Protocol):
    """From the values of a student and the targets of a batch to a loss."""

    def __call__(
        self, values: Mapping[str, Tensor], targets: Mapping[str, Tensor], *, progress: float | None
    ) -> Tensor:
        """The mean loss of the samples, at this progress of the training; None when held-out data is measured."""
        ...


@dataclass(frozen=True)
class Settings:
    """How to train.

    Args:
        steps: at most this many; None leaves it to the time.
        minutes: at most this long, what went before the training included; None leaves it to the steps.
        learning_rate: at its highest; None for one that fits the weights, found by trials.
        share: of the rate that fits the weights, as an earlier training found it; None to find it.
        gentle: the model only needs adjusting: a rate of our own is lower.
        optimizer: its name.
        patience: measurements without a better held-out loss after which the training ends; None for never.
        threads: of torch.
        seed: of torch; the order of the samples is the source's.
        began: moment (``time.monotonic``) from which the minutes count.
    """

    steps: int | None
    minutes: float | None
    learning_rate: float | None = None
    share: float | None = None
    gentle: bool = False
    optimizer: OptimizerName = "adam"
    patience: int | None = 10
    threads: int = 1
    seed: int = 0
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Training:
    """What came of a training.

    Args:
        steps: how many were taken in all.
        knots: the plan, for an exact repetition.
        resumed: the step at which an interrupted training was taken up; 0 for none.
        start: held-out loss at the start.
        best: the least held-out loss.
        best_step: after how many steps that was; 0 where training did not help.
        seconds: it took, earlier parts included.
        stopped_early: the held-out loss stopped falling.
        slowed: how often the learning rate was lowered because the loss was no number any more.
        share: of the rate that fits the weights, as trials found it; None where there were none.
        lowered: how often the rate was lowered because nothing improved on the start.
        averaged: the best weights are an average over steps.
    """

    steps: int
    knots: list[list[int]]
    resumed: int
    start: float
    best: float
    best_step: int
    seconds: float
    stopped_early: bool
    slowed: int
    share: float | None = None
    lowered: int = 0
    averaged: bool = False
