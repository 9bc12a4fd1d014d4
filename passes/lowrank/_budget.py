"""The cheapest ranks within the accuracy budget: along the frontier of the knapsack, as far as the metric allows.

    minimize share   subject to   metric(original) − metric(decomposed as c(share)) ≤ max_drop

c(share) are the choices of least damage with which so much of the cost stays. The drop grows as the share falls, but
for the noise of a metric on few samples: the share is bisected, each trial decomposed as it would be delivered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from graphpress.allocation.goal import Resource
from graphpress.data import Samples
from graphpress.deadline import PASSES
from graphpress.evaluation import EvaluationService, Metric, Score
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import is_within, verdict_on
from graphpress.manager.records import Verdict
from graphpress.passes.lowrank._allocate import Frontier
from graphpress.passes.lowrank._choices import RankChoice

ROUNDS = 6
"""Models that are decomposed and measured, at most."""
FIRST = 0.5
"""The share of the cost that is tried first."""
NEAR = 0.02
"""Shares that differ by less are one."""
HELD_OUT = 4
"""One sample in so many is held out, where calibration data is all that there is to choose by."""
COSTS: Mapping[Resource, str] = {"seconds": "time", "macs": "multiply-accumulates"}


@dataclass(frozen=True)
class AccuracyBudget:
    """How much of a metric may be lost.

    Args:
        max_drop: of the metric.
        judge: the metric.
        baseline: the score of the model that came in.
        evaluation: measures.
        fitted: the samples that trials may be decomposed on; None for all of the calibration data.
    """

    max_drop: float
    judge: Metric
    baseline: Score
    evaluation: EvaluationService
    fitted: Samples | None = None

    @staticmethod
    def of(context: Context) -> AccuracyBudget | str:
        """That of the run, or why a pass cannot search within it: a clause."""
        if context.evaluation is None:
            return "there is no data"
        evaluation, fitted = _apart(context.evaluation)
        if evaluation.max_drop is None:
            return "the accuracy budget is waived"
        if evaluation.judge is None or evaluation.baseline is None:
            return f"the metric cannot be taken on the {evaluation.split} data"
        return AccuracyBudget(evaluation.max_drop, evaluation.judge, evaluation.baseline, evaluation, fitted)

    def verdict(self, model: Model) -> Verdict:
        """Of a changed model.

        Raises:
            ModelError: it cannot be run.
        """
        score = self.evaluation.judged(model)
        assert score is not None
        return verdict_on(self.baseline, score, self.max_drop, self.judge.unit)


def _apart(evaluation: EvaluationService) -> tuple[EvaluationService, Samples | None]:
    """What measures on samples that decompositions do not see, and the others.

    Of calibration data one sample in ``HELD_OUT`` is held out: with few of them, a layer is right on those it was
    fitted on whatever it does to others.
    """
    places = range(evaluation.samples.count)
    if evaluation.split != "calibration" or len(places) < 2 * HELD_OUT:
        return evaluation, None
    held = places[HELD_OUT - 1 :: HELD_OUT]
    others = [place for place in places if place not in held]
    return replace(evaluation, samples=evaluation.samples.take(held)), evaluation.samples.take(others)


@dataclass(frozen=True)
class BudgetTrial:
    """Choices that were tried.

    Args:
        choices: by layer.
        kept: the share of the cost that they leave.
        verdict: what they do to the metric.
    """

    choices: dict[str, RankChoice]
    kept: float
    verdict: Verdict


@dataclass
class BudgetSearch:
    """Looks for the least cost within the accuracy budget.

    Args:
        budget: the limit.
        frontier: the choices of least damage for each cost.
        decomposed: a copy of the model with such choices.
        context: progress, and until when there is time.
        trials: what was tried, in order; grows.
    """

    budget: AccuracyBudget
    frontier: Frontier
    decomposed: Callable[[Mapping[str, RankChoice]], Model]
    context: Context
    trials: list[BudgetTrial] = field(default_factory=list)

    def run(self) -> BudgetTrial | None:
        """Bisect the share of the cost that stays.

        Returns:
            The cheapest trial within the budget; None where none is.
        """
        low, high, longest = self.frontier.least, 1.0, 0.0
        if high - low < NEAR:
            return None
        share = max(FIRST, low)
        for _ in self.context.progress.track(range(ROUNDS), "searching within the accuracy budget"):
            began = time.monotonic()
            trial = self._tried_at(share)
            low, high = (low, share) if is_within(trial.verdict) else (share, high)
            longest = max(longest, time.monotonic() - began)
            if high - low < NEAR or self.context.deadline.left(PASSES) < 2 * longest:
                break
            share = (low + high) / 2
        within = (trial for trial in self.trials if trial.choices and is_within(trial.verdict))
        return min(within, key=lambda trial: trial.kept, default=None)

    def describe(self, trial: BudgetTrial) -> str:
        """What the trial keeps and loses, for the report."""
        verdict, budget, count = trial.verdict, self.budget, len(self.trials)
        cost = f"{trial.kept:.1%} of the {COSTS[self.frontier.resource]}"
        lost, allowed = verdict.told(verdict.drop), verdict.told(budget.max_drop)
        where = f"{verdict.samples} {budget.evaluation.split} samples"
        return f"{cost}, for {lost} of {budget.judge.name} on {where}, {allowed} allowed; models tried: {count}"

    @property
    def shortfall(self) -> str:
        """Why there are no choices."""
        if not self.trials:
            return f"no rank of any layer saves {COSTS[self.frontier.resource]}"
        gentlest = max(self.trials, key=lambda trial: trial.kept)
        return f"no ranks keep the accuracy budget: {self.describe(gentlest)}"

    def _tried_at(self, share: float) -> BudgetTrial:
        """The trial with so much of the cost, made now where it is none of those before."""
        choices, kept = self.frontier.at(share)
        trial = next((trial for trial in self.trials if trial.choices == choices), None)
        if trial is None:
            trial = BudgetTrial(choices, kept, self.budget.verdict(self.decomposed(choices)))
            self.trials.append(trial)
        return trial
