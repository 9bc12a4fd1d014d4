"""From scores to a plan: which units of which groups go, by one criterion and one allocation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from graphpress.allocation import Curve, Goal
from graphpress.coupling import Coupling, Keep, remove
from graphpress.coupling.cost import GroupCosts, Totals
from graphpress.ir import Model, Refusal, clone
from graphpress.manager.contract import Context, Outcome
from graphpress.passes.prune._choice import CriterionChoice
from graphpress.passes.prune._limits import Limits
from graphpress.passes.prune._masking import damage
from graphpress.passes.prune._plan import CountPlan, KeptCounts, Strategy
from graphpress.passes.prune._speed import allocate
from graphpress.passes.prune._steps import PruneStep
from graphpress.passes.prune.criteria import Scores

FRACTIONS = (0.25, 0.5, 0.75)
"""Of a group's units, at which its damage is measured."""


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

    def noted(self, note: str) -> Plan:
        """The same with one more sentence for the report."""
        return replace(self, outcome=replace(self.outcome, notes=[*self.outcome.notes, note]))


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


@dataclass(frozen=True)
class PlanDrafts:
    """Drafts plans for one step of pruning.

    Args:
        model: not changed.
        coupling: its groups that may be touched.
        options: what the user has chosen.
        step: the goal, and the steps before.
        couple: finds the groups of a copy.
        scored: by criterion, its scores and what it had to say: each criterion judges once.
    """

    model: Model
    coupling: Coupling
    options: PlanOptions
    step: PruneStep
    couple: Callable[[Model], Coupling]
    scored: dict[str, tuple[str, Scores, Outcome]] = field(default_factory=dict)

    def draft(self, choice: CriterionChoice, strategy: Strategy, goal: Goal, context: Context, key: str) -> Plan:
        """The plan of a criterion and an allocation; without any group where the criterion can judge none.

        Args:
            choice: of the criterion.
            strategy: how the goal is shared among the groups.
            goal: how much stays.
            context: data, target and decisions of the run.
            key: under which measured counts are recorded.
        """
        name, scores, judged = self._scores(choice, context)
        coupling, refusals = _scored(self.coupling, scores)
        outcome = Outcome(0, [*judged.refusals, *refusals], list(judged.notes))
        costs = GroupCosts(self.model, coupling)
        if not coupling.groups:
            return Plan(name, strategy, coupling, scores, KeptCounts({}, 1.0), costs.full, costs.full, outcome)

        def realize(counts: Mapping[str, int]) -> Model:
            copy = clone(self.model)
            remove(copy, self.couple(copy), kept_units(scores, counts))
            return copy

        counts = self._count_plan(coupling, scores, strategy, goal, context)
        allocation = allocate(counts, self.model, costs, context, realize, key=key)
        left = costs.keep_all(allocation.counts)
        return Plan(name, strategy, coupling, scores, allocation, costs.full, left, outcome)

    def _scores(self, choice: CriterionChoice, context: Context) -> tuple[str, Scores, Outcome]:
        if choice.name not in self.scored:
            outcome = Outcome()
            self.scored[choice.name] = (*choice.score(self.model, self.coupling, context, outcome), outcome)
        return self.scored[choice.name]

    def _count_plan(
        self, coupling: Coupling, scores: Scores, strategy: Strategy, goal: Goal, context: Context
    ) -> CountPlan:
        curves = dict[str, Curve]()
        if strategy == "sensitivity":
            measured = damage(self.model, coupling, scores, context, FRACTIONS)
            curves = {name: Curve(np.array(FRACTIONS), values) for name, values in measured.items()}
        multiple = context.target.channel_multiple if goal.kind == "speedup" else 1
        limits = replace(self.options.limits(multiple), whole=self.step.history.sizes_at_first(coupling))
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
