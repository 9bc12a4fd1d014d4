"""Minimum damage within a limit when costs of neighboring items multiply: greedy descent along damage curves.

    minimize Σ_g D_g(k_g)   subject to   C(k) ≤ L,    k_g among the sizes that item g may have

A layer costs kept inputs times kept outputs, so C is no sum over items. The method is the greedy descent along the
convex hulls of the damage curves, which solves the relaxation of the separable problem exactly (Kellerer, Pferschy and
Pisinger, Knapsack Problems, 2004, section 11.2), with the saving of a step taken at the present state of all other
items: each step is the one with the smallest

    (D_g(next) − D_g(now)) / (C(now) − C(next))

As items shrink their neighbors save less, so that this ratio only grows: the step whose ratio, computed anew, is
still smallest is the right one (lazy evaluation; Minoux 1978). All limits share one descent; where its next step would
meet the limit, the last step is that of the item, and to the size, which meets it with the least damage. A step
costs a few evaluations of one item's nodes, an item has at most ``STEPS`` of them, and the last step tries each item
once: time grows with items times the logarithm of their number.

Where costs add up, ``graphpress.allocation.knapsack`` is exact.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphpress.allocation.costs import SAVING_TOLERANCE, CostModel, Sizes
from graphpress.allocation.curves import lower_hull

STEPS = 32
"""Sizes of an item that the descent stops at; only the last step ends in between."""


def descend(sizes: Sizes, damage: Mapping[str, np.ndarray], costs: CostModel, limit: float) -> dict[str, int]:
    """Shrink where it hurts least for what it saves.

    Args:
        sizes: what each item may have.
        damage: by item, what each of its sizes does, ``(choices,)`` float64 in one unit for all, not falling.
        costs: of the model, unchanged; left at the sizes that were chosen.
        limit: the highest cost allowed.

    Returns:
        The size of every item; where none meets the limit, the sizes at which nothing saves any more.
    """
    curves = {name: _Curve(choices, damage[name]) for name, choices in sizes.items()}
    descent = _Descent(costs, {name: curve.thinned() for name, curve in curves.items()})
    while costs.current > limit:
        step = descent.next()
        if step is None:
            break
        name, size = step
        before = costs.sizes[name]
        costs.resize({name: size})
        if costs.current <= limit:
            costs.resize({name: before})
            costs.resize(_last_step(curves, costs, limit))
    return costs.sizes


@dataclass(frozen=True)
class _Curve:
    """Sizes of one item, decreasing, with the damage that each does."""

    sizes: np.ndarray
    damage: np.ndarray

    def thinned(self) -> _Curve:
        """At most ``STEPS`` steps, on the lower convex hull."""
        at = np.unique(np.linspace(0, len(self.sizes) - 1, STEPS + 1).round().astype(int))
        hull = at[lower_hull(self.sizes[0] - self.sizes[at].astype(np.float64), self.damage[at])]
        return _Curve(self.sizes[hull], self.damage[hull])


def _last_step(curves: Mapping[str, _Curve], costs: CostModel, limit: float) -> dict[str, int]:
    """The one item, with the size it falls to, that meets the limit at the least damage."""
    best: dict[str, int] = {}
    min_harm = math.inf
    now = costs.sizes
    for name, curve in curves.items():
        start = int(np.flatnonzero(curve.sizes <= now[name])[0])
        index = _first_within(curve.sizes, start, name, costs, limit)
        if index is None:
            continue
        harm = curve.damage[index] - curve.damage[start]
        if harm < min_harm:
            best, min_harm = {name: int(curve.sizes[index])}, harm
    return best


def _first_within(sizes: np.ndarray, start: int, name: str, costs: CostModel, limit: float) -> int | None:
    """Index of the largest size of an item, from ``start`` on, that is within the limit; by bisection."""
    low, high = start, len(sizes)
    while low < high:
        middle = (low + high) // 2
        met = costs.trial(name, int(sizes[middle])) <= limit
        low, high = (low, middle) if met else (middle + 1, high)
    return low if low < len(sizes) else None


class _Descent:
    """The order in which items step down their curves."""

    def __init__(self, costs: CostModel, curves: Mapping[str, _Curve]) -> None:
        self.costs, self.curves = costs, curves
        self.reached = dict.fromkeys(curves, 0)
        self.min_saving = SAVING_TOLERANCE * max(costs.full, 1e-300)
        self.heap = [(-math.inf, index, name) for index, name in enumerate(curves)]

    def next(self) -> tuple[str, int] | None:
        """The item that steps, and its next size; None when no step saves anything."""
        while self.heap:
            _, index, name = heapq.heappop(self.heap)
            step = self._best(name)
            if step is None:
                continue
            ratio, position = step
            heapq.heappush(self.heap, (ratio, index, name))
            if (ratio, index, name) == self.heap[0]:
                self.reached[name] = position
                return name, int(self.curves[name].sizes[position])
        return None

    def _best(self, name: str) -> tuple[float, int] | None:
        """Damage per saving of the nearest size that saves anything, and its position on the curve."""
        curve, now = self.curves[name], self.reached[name]
        cost = self.costs.current
        for position in range(now + 1, len(curve.sizes)):
            saving = cost - self.costs.trial(name, int(curve.sizes[position]))
            if saving > self.min_saving:
                return float(curve.damage[position] - curve.damage[now]) / saving, position
        return None
