"""The training loop: steps along a plan, the best weights on held-out samples, a state that can be taken up again.

The weights that the training starts from are the first candidate, so that by the measure of the held-out loss it never
makes a model worse. When the held-out loss stops falling, the learning rate is brought down over a tenth of the steps
done so far, and the training ends there: stopping at a high learning rate would waste what lowering it gains.

With the same plan, seed, threads and data, every step computes the same numbers, whether or not the training was
interrupted in between.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from graphpress.errors import UsageError
from graphpress.progress import Progress
from graphpress.torch_bridge import TrainableModel
from graphpress.torch_bridge.tensors import to_tensor
from graphpress.training.checkpoint import Store
from graphpress.training.conditions import exact, memory_errors
from graphpress.training.data import Example
from graphpress.training.optimizer import OptimizerName, make_optimizer, set_rate, step
from graphpress.training.schedule import ProgressPlan, learning_rate_factor

EVALUATIONS = 40
"""How often the held-out loss is measured in a training."""
MIN_BETWEEN = 5
"""Steps between two measurements, at least."""
TIMED_FIRST = (1, 2, 5, 20, 80)
"""Steps at which a training bounded by time first asks how long a step takes."""
COOL_DOWN = 0.1
"""Share of the steps done so far over which a training that stops early ends."""
SLOWER = 0.25
"""What the learning rate is multiplied with when it was ours and the loss is no number any more."""
MAX_SLOWED = 3
ALREADY_THERE = 1e-6
"""A held-out loss that is rounding: there is nothing to train."""
BEFORE_TIMING = 1 << 20


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
        learning_rate: at its highest; None for one that fits the weights.
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


def train(
    trainable: TrainableModel,
    loss: Loss,
    source: ExampleSource,
    settings: Settings,
    *,
    progress: Progress,
    store: Store | None = None,
    knots: Sequence[Sequence[int]] | None = None,
    masks: Mapping[str, np.ndarray] | None = None,
    what: str = "training",
) -> Training:
    """Train the parameters in place; they end as the best that were met.

    Args:
        trainable: the student.
        loss: what to lower.
        source: samples with targets.
        settings: how.
        progress: notified of every hundredth.
        store: keeps the state against interruption; a state that it holds is taken up.
        knots: the plan of an earlier training that is to be repeated step by step.
        masks: by parameter, true where it may differ from zero; parameters without one are free.
        what: the training's name for the progress bar.

    Raises:
        UsageError: the loss is no number any more, or memory runs out.
    """
    with exact(settings.threads), memory_errors():
        loop = _Loop(trainable, loss, source, settings, store, knots)
        loop.mask(masks or {})
        loop.begin()
        try:
            for share in progress.track(range(1, 101), what, 100):
                loop.advance(share / 100)
        except (KeyboardInterrupt, SystemExit) as stop:
            if loop.at_rest:
                loop.keep()
            if store is not None and store.file.exists():
                stop.add_note(f"the state of {what} lies in {store.file.parent}: the same command goes on from there")
            raise
        return loop.end()


class _Loop:
    """The mutable state of a training."""

    def __init__(
        self,
        trainable: TrainableModel,
        loss: Loss,
        source: ExampleSource,
        settings: Settings,
        store: Store | None,
        knots: Sequence[Sequence[int]] | None,
    ) -> None:
        self.settings, self.source, self.loss, self.store = settings, source, loss, store
        self.module = trainable.module
        self.names = sorted(trainable.parameters)
        self.parameters: list[Tensor] = [trainable.parameters[name] for name in self.names]
        _lay_out(self.parameters)
        self.optimizer = make_optimizer(
            settings.optimizer, self.parameters, settings.learning_rate, gentle=settings.gentle
        )
        if knots is None:
            self.plan = ProgressPlan([(0, BEFORE_TIMING if settings.steps is None else settings.steps)])
        else:
            self.plan = ProgressPlan([(int(step), int(left)) for step, left in knots], fixed=True)
        self.step = self.measured_at = self.waited = self.best_step = self.resumed = self.slowed = 0
        self.next_measure = 0.0
        self.best = self.start = float("inf")
        self.lowest = float("inf")  # of this training alone: a good start is often left before it is surpassed
        self.kept: list[Tensor] = []
        self.earlier = 0.0
        self.stopping = False
        self.at_rest = True
        self.timed_step, self.timed_at = 0, time.monotonic()
        self.masked: list[Tensor] = []
        self.masks: list[Tensor] = []

    def mask(self, masks: Mapping[str, np.ndarray]) -> None:
        """Keep parameters at zero where their mask is false."""
        parameters = dict(zip(self.names, self.parameters, strict=True))
        pairs = [(parameter, masks[name]) for name, parameter in parameters.items() if name in masks]
        self.masked = [parameter for parameter, _ in pairs]
        self.masks = [torch.from_numpy(mask).to(parameter.dtype) for parameter, mask in pairs]
        _lay_out(self.masks)

    # -- from start to end ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Take up an interrupted training, or measure where this one starts."""
        torch.manual_seed(self.settings.seed)
        state = None if self.store is None else self.store.load()
        if state is not None:
            self._restore(state)
        else:
            self._measure()
            self.start = self.best
            if self.start < ALREADY_THERE:
                self.plan.replan(0, 0)
        self.timed_step, self.timed_at = self.step, time.monotonic()

    def advance(self, until: float) -> None:
        """Train up to this progress."""
        while (now := self.plan.progress(self.step)) < until and self.step < self.plan.steps:
            set_rate(self.optimizer, learning_rate_factor(now))
            self._descend(now)
            self.step += 1
            self._finish_step()

    def end(self) -> Training:
        """Measure a last time, and leave the best weights in place."""
        if self.measured_at != self.step:
            self._measure()
        self._put(self.kept)
        return Training(
            steps=self.step,
            knots=self.plan.recorded(),
            resumed=self.resumed,
            start=self.start,
            best=self.best,
            best_step=self.best_step,
            seconds=self._elapsed(),
            stopped_early=self.stopping,
            slowed=self.slowed,
        )

    def keep(self) -> None:
        """Save the state."""
        if self.store is not None:
            self.store.save(
                {
                    "parameters": dict(zip(self.names, self.parameters, strict=True)),
                    "best_parameters": dict(zip(self.names, self.kept, strict=True)),
                    "optimizer": self.optimizer.state_dict(),
                    "knots": self.plan.recorded(),
                    "seconds": self._elapsed(),
                    "numbers": {name: getattr(self, name) for name in _NUMBERS},
                }
            )

    # -- one step -------------------------------------------------------------------------------------

    def _descend(self, progress: float) -> None:
        """One step of the optimizer over all calls of its batch."""
        examples = self.source.batch(self.step)
        total = sum(example.count for example in examples)
        for parameter in self.parameters:
            parameter.grad = None
        for example in examples:
            loss = self._loss(example, progress) * (example.count / total)
            if not np.isfinite(loss.item()):
                self._slow_down()
                return
            loss.backward()  # type: ignore[no-untyped-call]
        self.at_rest = False  # from here to the end of the step, what is there is half of the next state
        step(self.optimizer)
        if self.masked:
            with torch.no_grad():
                torch._foreach_mul_(self.masked, self.masks)

    def _slow_down(self) -> None:
        """The loss is no number any more: go on from the best weights with a lower learning rate of our own choice.

        Raises:
            UsageError: the rate was given, there are no good weights, or it has been lowered often enough.
        """
        if self.settings.learning_rate is not None or self.slowed == MAX_SLOWED or not self.kept:
            raise self._diverged()
        self.slowed += 1
        self._put(self.kept)
        self.optimizer.state.clear()
        for group in self.optimizer.param_groups:
            group["full_rate"] *= SLOWER

    def _put(self, weights: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, weight in zip(self.parameters, weights, strict=True):
                parameter.copy_(weight)

    def _loss(self, example: Example, progress: float | None) -> Tensor:
        feed = {name: _tensor(array) for name, array in example.feed.items()}
        targets = {name: _tensor(array) for name, array in example.targets.items()}
        return self.loss(self.module(feed), targets, progress=progress)

    def _finish_step(self) -> None:
        """Measure and save where that is due, and plan the rest anew where the time is what bounds it."""
        is_due = self.plan.progress(self.step) >= self.next_measure and self.step - self.measured_at >= MIN_BETWEEN
        if is_due:
            self._measure()
        if is_due or self.step in TIMED_FIRST:
            self._replan()
        self.at_rest = True
        if self.store is not None and self.store.due:
            self.keep()

    @torch.no_grad()
    def _measure(self) -> None:
        """The held-out loss; keep the weights where it is the least so far."""
        total, count = 0.0, 0
        for example in self.source.held_out():
            total += self._loss(example, None).item() * example.count
            count += example.count
        loss = total / max(count, 1)
        if not np.isfinite(loss):
            self._slow_down()
        self.measured_at = self.step
        self.next_measure = self.plan.progress(self.step) + 1.0 / EVALUATIONS
        if loss < self.best:
            self.best, self.best_step = loss, self.step
            self.kept = [parameter.detach().clone() for parameter in self.parameters]
        if not self.step:
            return
        self.waited = 0 if loss < self.lowest else self.waited + 1
        self.lowest = min(self.lowest, loss)

    def _replan(self) -> None:
        """How many steps are still to come, by the clock and by patience."""
        if self.plan.fixed or self.stopping:
            return
        if self.settings.patience is not None and self.waited >= self.settings.patience:
            self.stopping = True
            self.plan.replan(self.step, min(self.plan.steps - self.step, max(1, int(COOL_DOWN * self.step))))
            return
        if self.settings.minutes is None or self.step <= self.timed_step:
            return
        each = (time.monotonic() - self.timed_at) / (self.step - self.timed_step)
        left = int((60.0 * self.settings.minutes - self._elapsed()) / max(each, 1e-6))
        bound = BEFORE_TIMING if self.settings.steps is None else self.settings.steps - self.step
        self.plan.replan(self.step, max(0, min(left, bound)))

    # -- state ----------------------------------------------------------------------------------------

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._put([state["parameters"][name] for name in self.names])
        self.kept = [state["best_parameters"][name] for name in self.names]
        self.optimizer.load_state_dict(state["optimizer"])
        for name in _NUMBERS:
            setattr(self, name, state["numbers"][name])
        if not self.plan.fixed:
            self.plan = ProgressPlan([(step, left) for step, left in state["knots"]])
        self.earlier, self.resumed = state["seconds"], self.step

    def _elapsed(self) -> float:
        return self.earlier + time.monotonic() - self.settings.began

    def _diverged(self) -> UsageError:
        rate = self.settings.learning_rate
        return UsageError(
            f"the loss is no number any more at step {self.step}",
            where="training",
            fix=f"lower learning_rate ({'now chosen by itself: try 1e-4' if rate is None else f'now {rate:g}'})",
        )


_NUMBERS = ("step", "slowed", "measured_at", "waited", "best_step", "next_measure", "best", "lowest", "start",
            "stopping")  # fmt: skip


def _tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor; images lie with their channels last, in which convolutions are faster."""
    tensor = to_tensor(array)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _lay_out(parameters: Sequence[Tensor]) -> None:
    for parameter in parameters:
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
