"""Units of all groups in one ranking: the least important go first, wherever they are, until the goal is met.

Scores have to be comparable between groups, so they come normalised. The shortest prefix of the ranking that meets the
budget is found by bisection. A group never falls below its floor, and keeps the next larger allowed count.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphpress.coupling.cost import GroupCosts
from graphpress.passes.prune.allocation.goal import Allocation, Goal, Limits, settled


def ranking(goal: Goal, scores: Mapping[str, np.ndarray], costs: GroupCosts, limits: Limits) -> Allocation:
    """Remove the units of lowest score over all groups.

    Args:
        goal: what to reach.
        scores: importance of each unit, by group.
        costs: of the model; left at the counts that were chosen.
        limits: the counts a group may have.
    """
    choices = limits.choices(costs)
    names = list(choices)
    owner = np.repeat(np.arange(len(names)), [len(scores[name]) for name in names])
    order = np.argsort(np.concatenate([scores[name] for name in names]), kind="stable") if names else owner
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        costs.keep_all(_counts(choices, owner[order[:middle]]))
        low, high = (low, middle) if goal.met(costs) else (middle + 1, high)
    costs.keep_all(_counts(choices, owner[order[:low]]))
    return settled(goal, costs, limits)


def _counts(choices: Mapping[str, np.ndarray], gone: np.ndarray) -> dict[str, int]:
    """The smallest allowed counts that keep every unit outside the prefix."""
    removed = np.bincount(gone, minlength=len(choices))
    return {
        name: int(counts[np.flatnonzero(counts >= counts[0] - removed[index])[-1]])
        for index, (name, counts) in enumerate(choices.items())
    }
