"""The repair without training that serves a model best, found by trial.

    biases     ``correct_bias``: every channel has the mean and the deviation of the start again
    weights    ``reconstruct``, then ``correct_bias``: first the weights, by least squares, that make up best for what
               the layers before got wrong

Each is tried on a copy. Which one stays is decided by damage (``graphpress.evaluation.sensitivity``: divergence of the
predicted distributions, or relative error of the outputs) on samples that no trial has seen: the selection part of the
data where there is one, else a quarter of the calibration samples. Where next to no damage was done nothing is tried,
and where no trial lowers it the model stays as it is.

A trial is kept to its time by looking at fewer samples. Solving for weights, which takes the cube of a layer's inputs,
is left out, with a note, where it would take longer. Of a large model, which is in memory once at a time, only means
are corrected: copies of it share their weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from graphpress.data import Samples
from graphpress.deadline import OutOfTimeError
from graphpress.errors import UsageError
from graphpress.evaluation.sensitivity import SAMPLES, DamageMeasure
from graphpress.ir import Model, Refusal
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes.recovery._budget import FEWEST_TO_SOLVE, RepairBudget
from graphpress.passes.recovery._repair import nothing_before
from graphpress.passes.recovery._trials import NOTHING, Choice, RepairDecision, Trials, split
from graphpress.runtime import Session

ENOUGH = 2e-4
"""Of the damage of an answer that is the same whatever the input: what is left below this is not worth a repair. For
numbers that is a distance of 37 dB."""


@dataclass(frozen=True)
class Repair(Pass):
    """Correct biases, or weights and biases, whichever brings a quantized or pruned model closer to its start.

    Args:
        samples: calibration samples that are looked at, at most.
        share: what one trial may take, about, of the time in which the start model runs through the calibration data.
        seconds: what one trial may take, about, even if that is longer.
    """

    name: ClassVar[str] = "repair"
    lossless: ClassVar[bool] = False
    recovers: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    samples: int = 256
    share: float = 1.0
    seconds: float = 3.0

    def __post_init__(self) -> None:
        for field, least in (("samples", 1), ("share", 0), ("seconds", 0)):
            if not getattr(self, field) >= least:  # undefined numbers, too
                raise UsageError(
                    f"{field} must be at least {least}, not {getattr(self, field)}",
                    where=self.name,
                    fix="leave it out for the default",
                )

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Needs data, and a model to repair towards."""
        return super().refuse(model, context) or nothing_before(self.name, context)

    def run(self, model: Model, context: Context) -> Outcome:
        """Try, judge, keep the best."""
        key = f"{context.step}.{self.name}.trial"
        recorded: RepairDecision | None = context.recorded(key, RepairDecision)
        seen, held_out = split(context)
        trials = Trials(model, replace(context, calibration=seen))
        if recorded is not None:
            return trials.carry_out(recorded)
        start = Session(trials.simulate(trials.aim), threads=context.threads)
        budget = RepairBudget.of(start, seen, self.share, self.seconds, context.deadline)
        if budget is None:
            return Outcome(0, [Refusal(self.name, "the time limit leaves no time for it", "raise --time-limit")])
        samples = budget.samples(self.samples)
        few = held_out.spread(min(SAMPLES, samples)) if isinstance(held_out, Samples) else held_out
        judge = DamageMeasure.of(start, few, threads=context.threads, simulate=trials.simulate)
        del start  # of a large model: one is in memory at a time
        decision = _decide(trials, samples, judge, budget)
        context.decisions[key] = asdict(decision)
        return trials.carry_out(decision)


def _decide(trials: Trials, samples: int, judge: DamageMeasure, budget: RepairBudget) -> RepairDecision:
    """The trial of least damage."""
    damages: dict[Choice, float] = {NOTHING: judge.damage(trials.model)}
    used: dict[Choice, int] = {NOTHING: samples}
    enough, reason = ENOUGH * judge.constant, ""

    def try_out(choice: Choice, count: int) -> None:
        damages[choice], used[choice] = judge.damage(trials.of(choice, count)), count

    if damages[NOTHING] < enough:
        reason = "next to none: nothing was tried"
    else:
        try_out("biases", samples)
        few = None if trials.weights_stay else budget.samples_for_weights(trials.model, samples)
        reason = _reason_against_weights(trials, few, budget, is_enough=damages["biases"] < enough)
        if few is not None and not reason:
            try:
                try_out("weights", few)
            except OutOfTimeError:
                reason = "weights stay: the time limit was reached"
    measured = ", ".join(f"{name} {damage:.2e}" for name, damage in damages.items())
    best = min(damages, key=lambda name: damages[name])
    return RepairDecision(
        best, used[best], "; ".join(filter(None, (f"damage on samples held out: {measured}", reason)))
    )


def _reason_against_weights(trials: Trials, samples: int | None, budget: RepairBudget, *, is_enough: bool) -> str:
    """Why least squares is not tried; empty where it is."""
    if is_enough:
        return "weights stay: next to no damage is left"
    if trials.weights_stay:
        return "weights stay: a copy of a large model would hold them once more"
    if samples is None:
        seconds = budget.seconds_for_weights(trials.model, FEWEST_TO_SOLVE)
        return f"weights stay: solving for them takes about {seconds:.0f} s, more than {budget.seconds:.0f} s"
    return ""
