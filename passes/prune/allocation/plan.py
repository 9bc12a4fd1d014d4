"""A strategy with all that it needs to know beside the costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from graphpress.coupling.cost import GroupCosts
from graphpress.errors import UsageError, did_you_mean
from graphpress.passes.prune.allocation.curves import Curve
from graphpress.passes.prune.allocation.goal import Allocation, Goal, Limits
from graphpress.passes.prune.allocation.knapsack import knapsack
from graphpress.passes.prune.allocation.ranking import ranking
from graphpress.passes.prune.allocation.uniform import uniform

Strategy = Literal["uniform", "global", "sensitivity", "latency"]
"""How a goal is shared among the groups.

    uniform       the same fraction of every group
    global        the least important units over all groups
    sensitivity   least damage for what it saves, by measured damage curves
    latency       least damage for what it saves, by the scores of the units that go
"""


@dataclass(frozen=True)
class Plan:
    """What to allocate.

    Args:
        goal: how much may stay.
        strategy: how it is shared among the groups.
        scores: importance of each unit by group, comparable between groups.
        curves: measured damage by group, for ``sensitivity``; where a group has none, its scores stand in.
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

    def allocation(self, costs: GroupCosts) -> Allocation:
        """Kept counts that meet the goal, or come as near to it as the limits let them.

        Args:
            costs: of the model; with seconds where the goal is a speed-up. Left at the counts that were chosen.
        """
        costs.keep_all(costs.sizes)
        if self.strategy == "uniform":
            return uniform(self.goal, costs, self.limits)
        if self.strategy == "global":
            return ranking(self.goal, self.scores, costs, self.limits)
        measured = self.curves if self.strategy == "sensitivity" else {}
        curves = {name: measured.get(name) or Curve.of_scores(self.scores[name]) for name in costs.sizes}
        return knapsack(self.goal, curves, costs, self.limits)

    def at(self, budget: float) -> Plan:
        """The same with another fraction of the time that may stay."""
        return replace(self, goal=Goal("speedup", 1 / budget))
