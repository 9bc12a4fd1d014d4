"""How many units of each group stay: a strategy with all that it needs to know beside the costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from graphpress.allocation import Curve, Goal, Sizes, descend, ranking, sizes_at, uniform
from graphpress.coupling.cost import GroupCosts
from graphpress.errors import UsageError, did_you_mean
from graphpress.ir import Refusal
from graphpress.passes.prune._costs import CountCosts
from graphpress.passes.prune._limits import Limits

Strategy = Literal["uniform", "global", "sensitivity", "latency"]
"""How a goal is shared among the groups.

    uniform       the same fraction of every group
    global        the least important units over all groups
    sensitivity   least damage for what it saves, by measured damage curves
    latency       least damage for what it saves, by the scores of the units that go
"""

NOTHING_REMOVED = "nothing was removed"
ASK_FOR_LESS = "ask for less, lower `floor`, or exclude fewer layers"


@dataclass(frozen=True)
class KeptCounts:
    """How many units of each group stay.

    Args:
        counts: kept units by group name, in graph order.
        kept: the fraction of the whole model's cost that stays, in terms of the goal.
        shortfall: why the goal is not met, with the best that can be reached; None where it is.
        notes: for the report.
    """

    counts: dict[str, int]
    kept: float
    shortfall: Refusal | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CountPlan:
    """What to allocate.

    Args:
        goal: how much may stay.
        strategy: how it is shared among the groups.
        scores: importance of each unit by group, comparable between groups.
        curves: measured damage by group, for ``sensitivity``; where a group has none, its scores serve.
        limits: the counts a group may have.

    Raises:
        UsageError: no such strategy.
    """

    goal: Goal
    strategy: Strategy = "uniform"
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        known = get_args(Strategy)
        if self.strategy not in known:
            raise UsageError(
                f"no such strategy {self.strategy!r}", where="prune", fix=did_you_mean(self.strategy, known)
            )

    def counts(self, costs: GroupCosts) -> KeptCounts:
        """Kept counts that meet the goal, or come as near to it as the limits let them.

        Args:
            costs: of the model; with seconds where the goal is a speed-up. Left at the counts that were chosen.
        """
        costs.keep_all(costs.sizes)
        sizes, model = self.limits.counts(costs), CountCosts(costs, self.goal)
        if self.strategy == "uniform" and self.goal.kind == "ratio":
            return self._exact_ratio(sizes, model, costs)
        limit = self.goal.limit(model.full)
        if self.strategy == "uniform":
            uniform(sizes, model, limit)
        elif self.strategy == "global":
            ranking(sizes, self.scores, model, limit)
        else:
            descend(sizes, self._damage(sizes), model, limit)
        return self._settled(model)

    def at(self, budget: float) -> CountPlan:
        """The same with another fraction of the time that may stay."""
        return replace(self, goal=Goal("speedup", 1 / budget, self.goal.where))

    def _exact_ratio(self, sizes: Sizes, model: CountCosts, costs: GroupCosts) -> KeptCounts:
        """The requested fraction of every group; rounding to whole units is no shortfall, a floor is."""
        budget = self.goal.budget
        model.resize(sizes_at(sizes, budget))
        bound = any(self.limits.min_units(name, size) > budget * size for name, size in costs.sizes.items())
        return self._settled(model) if bound else KeptCounts(model.sizes, model.kept)

    def _damage(self, sizes: Sizes) -> dict[str, np.ndarray]:
        """By group the damage of each count that it may have."""
        measured = self.curves if self.strategy == "sensitivity" else {}
        curves = {name: measured.get(name) or Curve.of_scores(self.scores[name]) for name in sizes}
        return {name: curves[name].at(counts, int(counts[0])) for name, counts in sizes.items()}

    def _settled(self, model: CountCosts) -> KeptCounts:
        """The current counts, with what is missing to the goal."""
        if model.current <= self.goal.limit(model.full):
            return KeptCounts(model.sizes, model.kept)
        budget = self.goal.describe(self.goal.budget)
        why = f"{budget} cannot be reached: with every group at its floor of {self.limits.floor:.0%} it is "
        return KeptCounts(model.sizes, model.kept, Refusal("prune", why + self.goal.describe(model.kept), ASK_FOR_LESS))
