"""Least damage within a budget: a multiple-choice knapsack in which the costs of neighbouring groups multiply.

    minimise Σ_g D_g(k_g)   subject to   C(k) ≤ B,    k_g among the counts that group g may have

A layer costs kept inputs times kept outputs, so C is no sum over groups. The method is the greedy descent along the
convex hulls of the damage curves, which solves the relaxation of the separable problem exactly (Kellerer, Pferschy and
Pisinger, Knapsack Problems, 2004, section 11.2), with the saving of a step taken at the present state of all other
groups: each step is the one with the least

    (D_g(next) − D_g(now)) / (C(now) − C(next))

As groups shrink their neighbours save less, so that this ratio only grows: the step whose ratio, computed anew, is
still least is the right one (lazy evaluation; Minoux 1978). All budgets share one descent; where its next step would
meet the budget, the last step is that of the group, and to the count, which meets it with the least damage. A step
costs a few evaluations of one group's nodes, a group has at most ``STEPS`` of them, and the last step tries each group
once: time grows with groups times the logarithm of their number.
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
"""Counts of a group that the descent stops at; only the last step ends in between."""

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
            costs.keep(name, before)
            costs.keep_all(_last_step(goal, costs, choices, curves))
    return settled(goal, costs, limits)


def _last_step(
    goal: Goal, costs: GroupCosts, choices: Mapping[str, np.ndarray], curves: Mapping[str, Curve]
) -> dict[str, int]:
    """The one group, with the count it falls to, that meets the budget at the least damage."""
    found: dict[str, int] = {}
    least = math.inf
    for name, counts in choices.items():
        now = costs.counts[name]
        count = _first_that_meets(goal, costs, name, counts[counts <= now])
        if count is None:
            continue
        before, after = curves[name].at(np.array([now, count]), int(counts[0]))
        if after - before < least:
            found, least = {name: count}, after - before
    return found


def _first_that_meets(goal: Goal, costs: GroupCosts, name: str, counts: np.ndarray) -> int | None:
    """The largest of some decreasing counts that is within the budget, by bisection."""
    whole = goal.cost(costs.full)
    low, high = 0, len(counts)
    while low < high:
        middle = (low + high) // 2
        met = goal.allows(goal.cost(costs.trial(name, int(counts[middle]))), whole)
        low, high = (low, middle) if met else (middle + 1, high)
    return int(counts[low]) if low < len(counts) else None


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
