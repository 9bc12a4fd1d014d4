"""The same fraction of every group goes.

For ``ratio`` that is the fraction asked for. For other goals it is the smallest that meets the budget, found by
bisection: the cost falls as the fraction grows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphpress.coupling.cost import GroupCosts
from graphpress.passes.prune.allocation.goal import Allocation, Goal, Limits, settled

LEVELS = 4096
"""Fractions that the bisection tells apart."""


def uniform(goal: Goal, costs: GroupCosts, limits: Limits) -> Allocation:
    """Remove the same fraction of every group.

    Args:
        goal: what to reach.
        costs: of the model; left at the counts that were chosen.
        limits: the counts a group may have.
    """
    choices = limits.choices(costs)
    if goal.kind == "ratio":
        costs.keep_all(_counts(choices, goal.budget))
        bound = any(limits.least(name, size) > goal.budget * size for name, size in costs.sizes.items())
        return settled(goal, costs, limits) if bound else Allocation(costs.counts, goal.kept(costs))
    low, high = 0, LEVELS
    while low < high:
        middle = (low + high) // 2
        costs.keep_all(_counts(choices, 1 - middle / LEVELS))
        low, high = (low, middle) if goal.met(costs) else (middle + 1, high)
    costs.keep_all(_counts(choices, 1 - low / LEVELS))
    return settled(goal, costs, limits)


def _counts(choices: Mapping[str, np.ndarray], kept: float) -> dict[str, int]:
    """For each group the allowed count nearest to this fraction of it, the larger of two."""
    return {name: int(counts[np.argmin(np.abs(counts - kept * counts[0]))]) for name, counts in choices.items()}
