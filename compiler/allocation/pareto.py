"""Partial solutions of a knapsack, item after item: those that no other beats in damage and in every cost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from graphpress.allocation.relaxation import Instance, Relaxation

WIDTHS = (100, 2_000, 50_000)
"""Partial solutions that are followed at a time; the next where the last does not prove its result the best."""
ROUNDING = 1e-12
"""What the terms of a bound lose in float64, relative to them."""
MAX_PIVOTS = 500
"""States that others are compared with where there are several resources; fewer comparisons only cost time."""


@dataclass(frozen=True)
class Optimum:
    """What a search came to.

    Args:
        picks: the best choice within the limits, ``[items]`` int; None where there is none.
        bound: no choice within the limits does less damage.
    """

    picks: np.ndarray | None
    bound: float


@dataclass(frozen=True)
class _States:
    """Partial solutions of the first items.

    Args:
        damage: ``[states]``.
        costs: ``[states, resources]``.
        trail: item by item, the state before and the choice that led here, ``[states]`` int each.
    """

    damage: np.ndarray
    costs: np.ndarray
    trail: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def extended(self, damage: np.ndarray, costs: np.ndarray) -> _States:
        """Every state with every choice of one more item: ``[choices]`` and ``[choices, resources]``."""
        parents = np.repeat(np.arange(len(self.damage), dtype=np.int32), len(damage))
        choices = np.tile(np.arange(len(damage), dtype=np.int32), len(self.damage))
        step = (parents, choices)
        return _States(
            self.damage[parents] + damage[choices], self.costs[parents] + costs[choices], [*self.trail, step]
        )

    def at(self, index: np.ndarray) -> _States:
        """Some of the states; the steps before the last stay as they are."""
        parents, choices = self.trail[-1]
        return _States(self.damage[index], self.costs[index], [*self.trail[:-1], (parents[index], choices[index])])

    def undominated(self, prices: np.ndarray) -> _States:
        """Without states that another one equals or beats in everything."""
        if self.costs.shape[1] != 1:
            return self.at(_undominated(self.damage, self.costs, prices))
        order = np.lexsort((self.damage, self.costs[:, 0]))
        damage = self.damage[order]
        before = np.minimum.accumulate(np.concatenate([[np.inf], damage[:-1]]))
        return self.at(order[damage < before])

    def picks(self, state: int) -> np.ndarray:
        """The choices that led to a state, ``[items]``."""
        picks = []
        for parents, choices in reversed(self.trail):
            picks.append(int(choices[state]))
            state = int(parents[state])
        return np.array(picks[::-1], int)


def search(instance: Instance, relaxation: Relaxation) -> Optimum:
    """The best choice within the limits.

    The search widens: few states find a good choice, with which the bound drops most of what more states would follow.

    Args:
        instance: the knapsack.
        relaxation: prices for the bound of what is still to come, of which any are valid, and a choice to start from.
    """
    optimum = Optimum(relaxation.known, -np.inf)
    for width in WIDTHS:
        optimum = _search(instance, relaxation.prices, optimum.picks, width)
        if optimum.bound >= instance.damage_or_inf(optimum.picks):
            break
    return optimum


def _search(instance: Instance, prices: np.ndarray, known: np.ndarray | None, width: int) -> Optimum:
    """The best of what so many states at a time lead to, and of the choice that is known."""
    best, given_up = instance.damage_or_inf(known), np.inf
    rest = _Rest.of(instance, prices, best)
    states = _States(np.zeros(1), np.zeros((1, len(prices))))
    for item, (damage, costs) in enumerate(zip(instance.damage, instance.costs, strict=True)):
        states = states.extended(damage, costs)
        bound = rest.bound(states, item + 1)
        promising = np.flatnonzero((bound < best) & rest.fits(states, item + 1))
        if len(promising) > width:
            promising = promising[np.argsort(bound[promising], kind="stable")]
            given_up = min(given_up, float(bound[promising[width]]))
            promising = promising[:width]
        states = states.at(promising).undominated(prices)
    if len(states.damage) and states.damage.min() < best:
        known = states.picks(int(states.damage.argmin()))
    return Optimum(known, min(instance.damage_or_inf(known), given_up))


@dataclass(frozen=True)
class _Rest:
    """What the items that are still to come add at least, by the number of items that are done.

    Args:
        priced: damage and priced costs less the priced limits, ``[items + 1]``.
        damage: ``[items + 1]``.
        costs: ``[items + 1, resources]``.
        prices, limits: ``[resources]``.
        rounding: what a bound may be too high by.
    """

    priced: np.ndarray
    damage: np.ndarray
    costs: np.ndarray
    prices: np.ndarray
    limits: np.ndarray
    rounding: float

    @staticmethod
    def of(instance: Instance, prices: np.ndarray, best: float) -> _Rest:
        """For an instance of which a solution of damage ``best`` is known."""
        priced = (instance.damage + instance.costs @ prices).min(1)
        paid = float(prices @ instance.limits)
        return _Rest(
            _sums_from(priced) - paid,
            _sums_from(instance.damage.min(1)),
            _sums_from(instance.min_costs()),
            prices,
            instance.limits,
            ROUNDING * (paid + float(np.abs(priced).sum()) + (abs(best) if np.isfinite(best) else 0.0)),
        )

    def bound(self, states: _States, done: int) -> np.ndarray:
        """The least damage that completions of each state can do."""
        relaxed = states.damage + states.costs @ self.prices + self.priced[done]
        return np.asarray(np.maximum(relaxed, states.damage + self.damage[done]) - self.rounding)

    def fits(self, states: _States, done: int) -> np.ndarray:
        """Whether each state can be completed within every limit taken for itself."""
        return np.asarray((states.costs + self.costs[done] <= self.limits).all(1))


def _sums_from(figures: np.ndarray) -> np.ndarray:
    """Sums over the items from each one on, and zero behind the last."""
    return np.concatenate([np.cumsum(figures[::-1], axis=0)[::-1], np.zeros((1, *figures.shape[1:]))])


def _undominated(damage: np.ndarray, costs: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Indices of states without those that one of the most promising equals or beats in everything.

    In the order of priced totals, of equals that of damage, no state is beaten by a later one.
    """
    figures = np.column_stack([damage, costs])
    left = np.lexsort((*costs.T, damage, damage + costs @ prices))
    kept: list[int] = []
    while len(left) and len(kept) < MAX_PIVOTS:
        kept.append(int(left[0]))
        left = left[1:][(figures[left[1:]] < figures[left[0]]).any(1)]
    return np.array([*kept, *left], int)
