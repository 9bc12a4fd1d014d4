"""Least damage within a budget: a multiple-choice knapsack in which the costs of neighbouring groups multiply.

    minimise Σ_g D_g(k_g)   subject to   C(k) ≤ B,    k_g among the counts that group g may have

A layer costs kept inputs times kept outputs, so C is no sum over groups. The method is the greedy descent along the
convex hulls of the damage curves, which solves the relaxation of the separable problem exactly (Kellerer, Pferschy and
Pisinger, Knapsack Problems, 2004, section 11.2), with the saving of a step taken at the present state of all other
groups: each step is the one with the least

    (D_g(next) − D_g(now)) / (C(now) − C(next))

As groups shrink their neighbours save less, so that this ratio only grows: the step whose ratio, computed anew, is
still least is the right one (lazy evaluation; Minoux 1978). The last step is shortened to the largest count that meets
the budget. All budgets share one descent: a smaller one keeps no unit more of any group. A step costs a few
evaluations of one group's nodes, and a group has at most ``STEPS`` of them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphpress.coupling.cost import GroupCosts
from graphpress.passes.prune.allocation.curves import Curve, lower_hull
from graphpress.passes.prune.allocation.goal import Allocation, Goal, Limits, settled

STEPS = 32
"""Counts of a group that the descent stops at; in between only the last step ends."""

_LEAST_SAVING = 1e-12
"""Of the whole cost; what saves less saves nothing."""


def knapsack(goal: Goal, curves: Mapping[str, Curve], costs: GroupCosts, limits: Limits) -> Allocation:
    """Remove where it hurts least for what it saves.

    Args:
        goal: what to reach.
        curves: damage by group.
        costs: of the model, all whole; left at the counts that were chosen.
        limits: the counts a group may have.
    """
    choices = limits.choices(costs)
    ladders = {name: _Ladder.of(counts, curves[name]) for name, counts in choices.items()}
    descent = _Descent(goal, costs, ladders)
    while not goal.met(costs):
        step = descent.next()
        if step is None:
            break
        name, count = step
        before = costs.counts[name]
        costs.keep(name, count)
        if goal.met(costs):
            _shorten(goal, costs, name, choices[name], before)
    return settled(goal, costs, limits)


def _shorten(goal: Goal, costs: GroupCosts, name: str, choices: np.ndarray, before: int) -> None:
    """Let the largest count below ``before`` stay that is within the budget, by bisection."""
    now = costs.counts[name]
    counts = choices[(choices < before) & (choices >= now)]
    low, high = 0, len(counts) - 1
    while low < high:
        middle = (low + high) // 2
        costs.keep(name, int(counts[middle]))
        low, high = (low, middle) if goal.met(costs) else (middle + 1, high)
    costs.keep(name, int(counts[low]))


@dataclass(frozen=True)
class _Ladder:
    """Counts of one group on the hull of its curve, decreasing, with their damage."""

    counts: np.ndarray
    damage: np.ndarray

    @staticmethod
    def of(counts: np.ndarray, curve: Curve) -> _Ladder:
        size = int(counts[0])
        rungs = counts[np.unique(np.linspace(0, len(counts) - 1, STEPS + 1).round().astype(int))]
        damage = curve.at(rungs, size)
        hull = lower_hull(size - rungs.astype(np.float64), damage)
        return _Ladder(rungs[hull], damage[hull])


class _Descent:
    """The order in which groups step down their ladders."""

    def __init__(self, goal: Goal, costs: GroupCosts, ladders: Mapping[str, _Ladder]) -> None:
        self.goal, self.costs, self.ladders = goal, costs, ladders
        self.rungs = dict.fromkeys(ladders, 0)
        self.least = _LEAST_SAVING * max(goal.cost(costs.full), 1e-300)
        self.heap = [(-math.inf, index, name) for index, name in enumerate(ladders)]

    def next(self) -> tuple[str, int] | None:
        """The group that steps, and its next count; None when no step saves anything."""
        while self.heap:
            _, index, name = heapq.heappop(self.heap)
            found = self._best(name)
            if found is None:
                continue
            ratio, rung = found
            if self.heap and (ratio, index) > self.heap[0][:2]:
                heapq.heappush(self.heap, (ratio, index, name))
                continue
            self.rungs[name] = rung
            heapq.heappush(self.heap, (ratio, index, name))
            return name, int(self.ladders[name].counts[rung])
        return None

    def _best(self, name: str) -> tuple[float, int] | None:
        """Damage per saving of the nearest rung that saves anything, and which it is."""
        ladder, now = self.ladders[name], self.rungs[name]
        cost = self.goal.cost(self.costs.totals)
        for rung in range(now + 1, len(ladder.counts)):
            saving = cost - self.goal.cost(self.costs.trial(name, int(ladder.counts[rung])))
            if saving > self.least:
                return float(ladder.damage[rung] - ladder.damage[now]) / saving, rung
        return None
