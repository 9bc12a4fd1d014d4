"""The training loop: steps along a plan, the best weights on held-out samples, a state that can be taken up again.

The weights that the training starts from are the first candidate, so that by the measure of the held-out loss it never
makes a model worse. Beside the weights, their running average is measured.

Where no learning rate was given, short trials from the start find it (``rate_search``). A training that has not
improved on its start in a quarter of its plan goes back there with a tenth of the rate; when that has not helped twice,
it ends. When the held-out loss stops falling, the learning rate is brought down over a tenth of the steps done so far,
and the training ends there: stopping at a high learning rate would waste what lowering it gains.

With the same plan, seed, threads and data, every step computes the same numbers, whether or not the training was
interrupted in between.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpress.errors import UsageError
from graphpress.progress import Progress
from graphpress.torch_bridge import TrainableModel
from graphpress.torch_bridge.tensors import to_tensor
from graphpress.training.average import WeightAverage
from graphpress.training.checkpoint import Store
from graphpress.training.conditions import exact, memory_errors
from graphpress.training.data import Example
from graphpress.training.optimizer import make_optimizer, set_rate, step
from graphpress.training.rate_search import find_share, trial_steps
from graphpress.training.schedule import ProgressPlan, learning_rate_factor
from graphpress.training.settings import ExampleSource, Loss, Settings, Training

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
FRUITLESS = 0.25
"""Share of the plan after which a training that has not improved on its start tries a lower rate."""
LOWER = 0.1
MAX_LOWERED = 2
FIRST_LOOK = 2
"""Steps from which the time of a step is known before trials."""
ALREADY_THERE = 1e-6
"""A held-out loss that is rounding: there is nothing to train."""
BEFORE_TIMING = 1 << 20


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
        self.step = self.measured_at = self.waited = self.best_step = self.resumed = self.slowed = self.lowered = 0
        self.share: float | None = None
        self.averaged = False
        self.next_look = FRUITLESS
        self.average = WeightAverage(self.parameters)
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
            elif self.settings.learning_rate is None:
                self._find_rate()
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
            share=self.share,
            lowered=self.lowered,
            averaged=self.averaged,
        )

    def keep(self) -> None:
        """Save the state."""
        if self.store is not None:
            self.store.save(
                {
                    "parameters": dict(zip(self.names, self.parameters, strict=True)),
                    "best_parameters": dict(zip(self.names, self.kept, strict=True)),
                    "average": dict(zip(self.names, self.average.values, strict=True)),
                    "averaged_steps": self.average.steps,
                    "optimizer": self.optimizer.state_dict(),
                    "knots": self.plan.recorded(),
                    "seconds": self._elapsed(),
                    "numbers": {name: getattr(self, name) for name in _NUMBERS},
                }
            )

    # -- the rate -------------------------------------------------------------------------------------

    def _find_rate(self) -> None:
        """Scale the rate to the share that trials show, or that an earlier training found."""
        self.share = self.settings.share
        if self.share is None and not self.plan.fixed:
            self.share = self._tried_share()
        if self.share is not None:
            self._scale_rate(self.share)

    def _tried_share(self) -> float | None:
        """Trials from the start, after which everything is as it was; None where there is no time for them."""
        settings, seconds, each = self.settings, None, 0.0
        if not trial_steps(settings.steps, None, each):
            return None
        self.at_rest = False
        if settings.minutes is not None:
            began = time.monotonic()
            self._trial(1.0, FIRST_LOOK, measured=False)
            each = (time.monotonic() - began) / FIRST_LOOK
            seconds = 60.0 * settings.minutes - self._elapsed()
        steps = trial_steps(settings.steps, seconds, each)
        share = find_share(self.start, lambda share: self._trial(share, steps)) if steps else None
        self.at_rest = True
        return share

    def _trial(self, share: float, steps: int, *, measured: bool = True) -> float:
        """The held-out loss after a short training from the start; infinite where it blows up."""
        finite = True
        for number in range(steps):
            set_rate(self.optimizer, share * learning_rate_factor((number + 0.5) / steps))
            finite = finite and self._backward(number, 0.0)
            if finite:
                self._move()
        loss = self._held_out() if finite and measured else float("inf")
        self._restart()
        return loss if np.isfinite(loss) else float("inf")

    def _restart(self) -> None:
        """Go back to the best weights, without the optimizer's memory of the way."""
        self._put(self.kept)
        self.optimizer.state.clear()
        self.average.restart(self.parameters)

    def _scale_rate(self, share: float) -> None:
        for group in self.optimizer.param_groups:
            group["full_rate"] *= share

    def _look_for_progress(self) -> None:
        """Where nothing has improved on the start for long, go back there with a lower rate, or end."""
        if self.best_step or self.settings.learning_rate is not None or self.plan.progress(self.step) < self.next_look:
            return
        self.next_look += FRUITLESS
        if self.lowered == MAX_LOWERED:
            self.stopping = True
            self.plan.replan(self.step, 0)
            return
        self.lowered += 1
        self._restart()
        self._scale_rate(LOWER)

    # -- one step -------------------------------------------------------------------------------------

    def _descend(self, progress: float) -> None:
        """One step of the optimizer over all calls of its batch."""
        if not self._backward(self.step, progress):
            self._slow_down()
            return
        self.at_rest = False  # from here to the end of the step, what is there is half of the next state
        self._move()

    def _backward(self, step: int, progress: float) -> bool:
        """The gradients of a batch; false where its loss is no number."""
        examples = self.source.batch(step)
        total = sum(example.count for example in examples)
        for parameter in self.parameters:
            parameter.grad = None
        for example in examples:
            loss = self._loss(example, progress) * (example.count / total)
            if not np.isfinite(loss.item()):
                return False
            loss.backward()  # type: ignore[no-untyped-call]
        return True

    def _move(self) -> None:
        step(self.optimizer)
        if self.masked:
            with torch.no_grad():
                torch._foreach_mul_(self.masked, self.masks)
        self.average.update(self.parameters)

    def _slow_down(self) -> None:
        """The loss is no number any more: go on from the best weights with a lower learning rate of our own choice.

        Raises:
            UsageError: the rate was given, there are no good weights, or it has been lowered often enough.
        """
        if self.settings.learning_rate is not None or self.slowed == MAX_SLOWED or not self.kept:
            raise self._diverged()
        self.slowed += 1
        self._restart()
        self._scale_rate(SLOWER)

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
            self._look_for_progress()
        if is_due or self.step in TIMED_FIRST:
            self._replan()
        self.at_rest = True
        if self.store is not None and self.store.due:
            self.keep()

    @torch.no_grad()
    def _held_out(self) -> float:
        """The mean loss on the held-out samples."""
        total, count = 0.0, 0
        for example in self.source.held_out():
            total += self._loss(example, None).item() * example.count
            count += example.count
        return total / max(count, 1)

    def _measure(self) -> None:
        """The held-out loss of the weights and of their average; keep what is the least so far."""
        loss = self._held_out()
        if not np.isfinite(loss):
            self._slow_down()
        self.measured_at = self.step
        self.next_measure = self.plan.progress(self.step) + 1.0 / EVALUATIONS
        self._compare(loss, averaged=False)
        if not self.step:
            return
        loss = min(loss, self._average_loss())
        self.waited = 0 if loss < self.lowest else self.waited + 1
        self.lowest = min(self.lowest, loss)

    def _average_loss(self) -> float:
        """The held-out loss of the average."""
        current = [parameter.detach().clone() for parameter in self.parameters]
        self._put(self.average.values)
        loss = self._held_out()
        self._compare(loss, averaged=True)
        self._put(current)
        return loss if np.isfinite(loss) else float("inf")

    def _compare(self, loss: float, *, averaged: bool) -> None:
        """Keep the weights as they are now where they are the best so far."""
        if loss < self.best:
            self.best, self.best_step, self.averaged = loss, self.step, averaged
            self.kept = [parameter.detach().clone() for parameter in self.parameters]

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
        self.average.restart([state["average"][name] for name in self.names])
        self.average.steps = state["averaged_steps"]
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


_NUMBERS = ("step", "slowed", "lowered", "share", "averaged", "next_look", "measured_at", "waited", "best_step",
            "next_measure", "best", "lowest", "start", "stopping")  # fmt: skip


def _tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor; images lie with their channels last, in which convolutions are faster."""
    tensor = to_tensor(array)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _lay_out(parameters: Sequence[Tensor]) -> None:
    for parameter in parameters:
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
