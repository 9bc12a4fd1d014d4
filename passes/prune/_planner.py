"""From scores to a plan: which units of which groups go.

A criterion and an allocation make a plan. Where both, or the allocation alone, are left open and there is data, a few
plans are tried on copies (``_trial``), and the one that does the least damage is carried out:

    the criterion's own scores, least for what they save    ``latency``
    damage measured group by group                          ``sensitivity``, with scores by weights
    the same fraction everywhere                            ``uniform``, where the others ruin the model

Where a trial would take too long, the first plan is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from graphpress.allocation import Curve
from graphpress.coupling import Coupling, Keep, remove
from graphpress.coupling.cost import GroupCosts, Totals
from graphpress.errors import GraphpressError
from graphpress.ir import Model, Refusal, clone
from graphpress.manager.contract import Context, Outcome
from graphpress.passes.prune._choice import AUTO, CriterionChoice
from graphpress.passes.prune._limits import Limits
from graphpress.passes.prune._masking import damage
from graphpress.passes.prune._plan import CountPlan, KeptCounts, Strategy
from graphpress.passes.prune._speed import allocate
from graphpress.passes.prune._steps import PruneStep
from graphpress.passes.prune._trial import MAX_MACS, RUNS, PlanTrial
from graphpress.passes.prune.criteria import Scores

FRACTIONS = (0.25, 0.5, 0.75)
"""Of a group's units, at which its damage is measured."""


@dataclass(frozen=True)
class PlanDecision:
    """What is recorded of a choice among plans.

    Args:
        allocation: of the one that was carried out.
        note: the sentence for the report.
    """

    allocation: str
    note: str


@dataclass(frozen=True)
class Plan:
    """What would be removed.

    Args:
        criterion: the name of what judged the units.
        strategy: how the goal was shared among the groups.
        coupling: the groups that the criterion can judge.
        scores: of their units.
        allocation: how many units of each group stay.
        whole: cost before.
        left: cost afterwards.
        outcome: what the criterion noted and refused.
    """

    criterion: str
    strategy: Strategy
    coupling: Coupling
    scores: Scores
    allocation: KeptCounts
    whole: Totals
    left: Totals
    outcome: Outcome

    def __str__(self) -> str:
        return f"{self.criterion} with allocation {self.strategy}"

    @property
    def keep(self) -> Keep:
        """Which units stay."""
        return kept_units(self.scores, self.allocation.counts)


@dataclass(frozen=True)
class PlanOptions:
    """What the user has chosen.

    Args:
        criterion: by name, or left open.
        allocation: a strategy, or ``auto``.
        floor: at least this fraction of every group stays.
        multiple: of kept channels; None leaves it to the target for a speed-up.
    """

    criterion: CriterionChoice
    allocation: Literal["auto"] | Strategy
    floor: float
    multiple: int | None

    def limits(self, multiple: int = 1) -> Limits:
        """The counts a group may have, where the target's multiple is this."""
        return Limits(self.floor, multiple if self.multiple is None else self.multiple)


class Planner:
    """Makes plans for one step of pruning, and chooses among them.

    Args:
        model: not changed.
        coupling: its groups that may be touched.
        options: what the user has chosen.
        step: the goal, and the steps before.
        context: data, target and decisions of the run.
        couple: finds the groups of a copy.
    """

    def __init__(
        self,
        model: Model,
        coupling: Coupling,
        options: PlanOptions,
        step: PruneStep,
        context: Context,
        couple: Callable[[Model], Coupling],
    ) -> None:
        self._model, self._coupling, self._options = model, coupling, options
        self._step, self._context, self._couple = step, context, couple
        self._judged: dict[str, tuple[str, Scores, Outcome]] = {}

    def best(self) -> Plan:
        """The plan to carry out; without any group where the criterion can judge none."""
        first, *others = self._candidates()
        recorded = self._context.recorded(self._key, PlanDecision)
        for choice, strategy in (first, *others) if recorded is not None else ():
            if recorded is not None and strategy == recorded.allocation:
                return _noted(self._plan(choice, strategy), recorded.note)
        plan = self._plan(*first)
        if not others or not plan.coupling.groups or RUNS * plan.whole.macs > MAX_MACS:
            return plan
        return self._tried(plan, others)

    # -- candidates -------------------------------------------------------------------------------------------

    def _candidates(self) -> Iterator[tuple[CriterionChoice, Strategy]]:
        own, allocation, kind = self._options.criterion, self._options.allocation, self._step.goal.kind
        if allocation != "auto":
            yield own, allocation
            return
        if kind == "ratio":
            yield own, "uniform"
            return
        yield own, "latency"
        if self._context.calibration is not None and self._step.alone:
            yield (replace(own, name="l2") if own.name == AUTO else own), "sensitivity"
            yield own, "uniform"

    def _tried(self, first: Plan, others: list[tuple[CriterionChoice, Strategy]]) -> Plan:
        """The plan of least damage. A speed-up is measured for each plan, so that others are made only where the first
        is absurd; the same fraction everywhere is a last resort, too.
        """
        try:
            trial = PlanTrial.of(self._model, self._context)
            tried = [(self._damage(first, trial), first)]
            for criterion, strategy in others:
                absurd = trial.is_absurd(min(harm for harm, _ in tried))
                if absurd or (strategy != "uniform" and self._step.goal.kind != "speedup" and self._affords(first)):
                    plan = self._plan(criterion, strategy)
                    tried.append((self._damage(plan, trial), plan))
        except GraphpressError as error:
            return _noted(first, f"the damage of the plan could not be measured beforehand: {error.what}")
        harm, best = min(tried, key=lambda pair: pair[0])
        note = _trial_note(tried, best, absurd=trial.is_absurd(harm))
        self._context.decisions[self._key] = asdict(PlanDecision(best.strategy, note))
        return _noted(best, note)

    def _damage(self, plan: Plan, trial: PlanTrial) -> float:
        copy = clone(self._model)
        kept = remove(copy, self._couple(copy), plan.keep)
        return trial.damage(copy, kept)

    def _affords(self, first: Plan) -> bool:
        """Whether damage can be measured group by group."""
        return len(FRACTIONS) * len(first.coupling.groups) * RUNS * first.whole.macs <= MAX_MACS

    @property
    def _key(self) -> str:
        return f"{self._step.key}.plan"

    # -- one plan ---------------------------------------------------------------------------------------------

    def _plan(self, choice: CriterionChoice, strategy: Strategy) -> Plan:
        name, scores, judged = self._scores(choice)
        coupling, refusals = _scored(self._coupling, scores)
        outcome = Outcome(0, [*judged.refusals, *refusals], list(judged.notes))
        costs = GroupCosts(self._model, coupling)
        if not coupling.groups:
            return Plan(name, strategy, coupling, scores, KeptCounts({}, 1.0), costs.full, costs.full, outcome)

        def realize(counts: Mapping[str, int]) -> Model:
            copy = clone(self._model)
            remove(copy, self._couple(copy), kept_units(scores, counts))
            return copy

        counts = self._count_plan(coupling, scores, strategy)
        first = strategy == next(self._candidates())[1]
        key = self._step.key if first else f"{self._step.key}.{strategy}"
        allocation = allocate(counts, self._model, costs, self._context, realize, key=key)
        left = costs.keep_all(allocation.counts)
        return Plan(name, strategy, coupling, scores, allocation, costs.full, left, outcome)

    def _scores(self, choice: CriterionChoice) -> tuple[str, Scores, Outcome]:
        if choice.name not in self._judged:
            outcome = Outcome()
            self._judged[choice.name] = (*choice.score(self._model, self._coupling, self._context, outcome), outcome)
        return self._judged[choice.name]

    def _count_plan(self, coupling: Coupling, scores: Scores, strategy: Strategy) -> CountPlan:
        curves, goal = dict[str, Curve](), self._step.goal
        if strategy == "sensitivity":
            measured = damage(self._model, coupling, scores, self._context, FRACTIONS)
            curves = {name: Curve(np.array(FRACTIONS), values) for name, values in measured.items()}
        multiple = self._context.target.channel_multiple if goal.kind == "speedup" else 1
        limits = replace(self._options.limits(multiple), whole=self._step.history.sizes_at_first(coupling))
        return CountPlan(goal, strategy, scores, curves, limits)


def kept_units(scores: Scores, counts: Mapping[str, int]) -> Keep:
    """Of each group as many units of the highest score; the first of equals."""
    keep = {}
    for name, count in counts.items():
        keep[name] = np.zeros(len(scores[name]), bool)
        keep[name][np.argsort(-scores[name], kind="stable")[:count]] = True
    return keep


def _scored(coupling: Coupling, scores: Scores) -> tuple[Coupling, list[Refusal]]:
    """The groups that the criterion could score, and those that it could not."""
    refusals = [
        Refusal(group.name, "the criterion cannot judge this group", "take another criterion, such as l2")
        for group in coupling.groups
        if group.name not in scores
    ]
    return replace(coupling, groups=tuple(group for group in coupling.groups if group.name in scores)), refusals


def _noted(plan: Plan, note: str) -> Plan:
    return replace(plan, outcome=replace(plan.outcome, notes=[*plan.outcome.notes, note]))


def _trial_note(tried: list[tuple[float, Plan]], best: Plan, *, absurd: bool) -> str:
    damages = ", ".join(f"{harm:.3g} by {plan}" for harm, plan in tried)
    note = f"damage after a brief repair by least squares, on calibration data: {damages}; {best} was carried out"
    return note + (", though it leaves little of what the model knew: ask for less" if absurd else "")
