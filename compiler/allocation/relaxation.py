"""The Lagrangian relaxation of a multiple-choice knapsack: a bound below its optimum, and a solution near it.

With a price λ_r ≥ 0 on every resource the limits go, and each item takes the choice of least d + λ·a on its own:

    bound(λ) = Σ_i min_c (d_i(c) + λ·a_i(c)) − λ·L

Any λ gives a valid bound. It is concave in λ, and along one coordinate it is highest where the relaxed choice just
meets that limit, which bisection finds; with several resources subgradient ascent goes on from there (Polyak 1969).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HALVINGS = 100
DOUBLINGS = 200
ASCENTS = 400
"""Steps by which the bound is raised where there are several resources."""
PATIENCE = 10
"""Steps without a higher bound after which they get shorter."""


@dataclass(frozen=True)
class Instance:
    """A knapsack as arrays.

    Args:
        damage: ``[items, choices]`` float64, infinite where there is no such choice.
        costs: ``[items, choices, resources]`` float64, in units of the limits; finite everywhere.
        limits: ``[resources]`` float64: 1 up to rounding, or 0.
    """

    damage: np.ndarray
    costs: np.ndarray
    limits: np.ndarray

    def damage_of(self, picks: np.ndarray) -> float:
        """The damage of one choice per item, ``[items]`` int."""
        return float(self.damage[np.arange(len(picks)), picks].sum())

    def damage_or_inf(self, picks: np.ndarray | None) -> float:
        """The same; infinite where there is no choice."""
        return np.inf if picks is None else self.damage_of(picks)

    def costs_of(self, picks: np.ndarray) -> np.ndarray:
        """Its costs, ``[resources]``."""
        return np.asarray(self.costs[np.arange(len(picks)), picks].sum(0))

    def allows(self, picks: np.ndarray) -> bool:
        """Whether its costs are within the limits."""
        return bool((self.costs_of(picks) <= self.limits).all())

    def min_costs(self) -> np.ndarray:
        """The least that each item takes of each resource, ``[items, resources]``."""
        return np.asarray(np.where(np.isinf(self.damage)[..., None], np.inf, self.costs).min(1))

    def cheapest(self) -> np.ndarray:
        """For each item the choice of least cost, the resources added up; of equals that of least damage."""
        load = np.where(np.isinf(self.damage), np.inf, self.costs.sum(2))
        return np.asarray(np.where(load == load.min(1, keepdims=True), self.damage, np.inf).argmin(1))

    def relaxed(self, prices: np.ndarray) -> np.ndarray:
        """For each item the choice of least damage plus priced costs."""
        return np.asarray((self.damage + self.costs @ prices).argmin(1))


@dataclass(frozen=True)
class Relaxation:
    """What is known before the search.

    Args:
        prices: those of the highest bound that was seen, ``[resources]``; the highest of all with one resource.
        known: a choice within the limits, ``[items]`` int, near the optimum as a rule; None where none is at hand.
    """

    prices: np.ndarray
    known: np.ndarray | None


def relax(instance: Instance) -> Relaxation:
    """Prices of a high bound, and a choice near it."""
    prices = np.zeros(len(instance.limits))
    for resource in range(len(prices)):
        prices[resource] = _balanced(instance, prices, resource)
    known = _better(instance, None, instance.relaxed(prices), instance.cheapest())
    if len(prices) < 2 or known is None:
        return Relaxation(prices, known)
    return _ascended(instance, Relaxation(prices, known))


def _ascended(instance: Instance, start: Relaxation) -> Relaxation:
    """Subgradient ascent of the bound towards the damage of the known choice, with Polyak's steps.

    Of a relaxed choice the excess over the limits is a subgradient. Steps are halved where the bound stalls.
    """
    best, known = start.prices, start.known
    assert known is not None
    prices, highest, scale, stalled = best, -np.inf, 1.0, 0
    for _ in range(ASCENTS):
        picks = instance.relaxed(prices)
        excess = instance.costs_of(picks) - instance.limits
        bound = instance.damage_of(picks) + float(prices @ excess)
        if bound > highest:
            best, highest, stalled = prices, bound, 0
            known = _better(instance, known, picks)
        else:
            stalled += 1
        if stalled == PATIENCE:
            prices, scale, stalled = best, scale / 2, 0
            continue
        gap = instance.damage_or_inf(known) - bound
        if gap <= 0 or not excess.any():
            break
        prices = np.maximum(prices + scale * gap / float(excess @ excess) * excess, 0.0)
    return Relaxation(best, known)


def _better(instance: Instance, known: np.ndarray | None, *starts: np.ndarray) -> np.ndarray | None:
    """The best of a known choice and of what single exchanges make of those others that are within the limits."""
    improved = [_improved(instance, picks) for picks in starts if instance.allows(picks)]
    return min([*([] if known is None else [known]), *improved], key=instance.damage_of, default=None)


def _balanced(instance: Instance, prices: np.ndarray, resource: int) -> float:
    """The lowest price of one resource, the others given, at which the relaxed choice meets its limit."""

    def meets(price: float) -> bool:
        picks = instance.relaxed(np.where(np.arange(len(prices)) == resource, price, prices))
        return bool(instance.costs_of(picks)[resource] <= instance.limits[resource])

    if meets(0.0):
        return 0.0
    low, high = 0.0, 1e-12
    for _ in range(DOUBLINGS):
        if meets(high):
            break
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high


def _improved(instance: Instance, picks: np.ndarray) -> np.ndarray:
    """Change one item's choice at a time to what fits and does least damage, until nothing does less."""
    picks, items = picks.copy(), np.arange(len(picks))
    while len(picks):
        slack = instance.limits - instance.costs_of(picks)
        fits = (instance.costs - instance.costs[items, picks][:, None] <= slack).all(2)
        gain = np.where(fits, instance.damage[items, picks][:, None] - instance.damage, 0.0)
        item, pick = np.unravel_index(gain.argmax(), gain.shape)
        changed = picks.copy()
        changed[item] = pick
        if gain[item, pick] <= 0 or not instance.allows(changed):
            break
        picks = changed
    return picks
