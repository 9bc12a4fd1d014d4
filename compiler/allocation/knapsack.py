"""Minimum damage within limits when costs add up: the multiple-choice knapsack, exactly.

    minimize Σ_i d_i(c_i)   subject to   Σ_i a_ir(c_i) ≤ L_r  for every resource r,    c_i among the choices of item i

Dynamic programming over Pareto-optimal states (Nemhauser and Ullmann 1969): after each item, the states are the sums
(damage, costs) of all partial choices of which no other is at most as bad in everything. Neither damage nor costs are
rounded, so the result is exact. What keeps the states few is a bound from the Lagrangian relaxation (Kellerer,
Pferschy and Pisinger, Knapsack Problems, 2004, section 11.5; Dyer, Kayal and Walker 1984): for any λ ≥ 0,

    Σ_i d_i + Σ_rest min_c (d + λ·a) + λ·(Σ_i a_i − L)   ≤   damage of every completion within the limits

A state whose bound exceeds the damage of a known solution cannot lead to a better one and is dropped. λ maximizes
the bound at the start; the known solution is that of the relaxation, improved by single exchanges and by a search that
follows few states. The bound is tight when there are many items, so that few states are left. Should there still be
more than the last of ``pareto.WIDTHS``, those of highest bound are given up, and ``Allocation.bound`` says how far from
the optimum the result can be. Hundreds of items with one limit take a fraction of a second, a hundred with two some
seconds.

Where costs of items multiply, see ``graphpress.allocation.descent``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from graphpress.allocation.goal import TOLERANCE
from graphpress.allocation.pareto import search
from graphpress.allocation.relaxation import Instance, relax

C = TypeVar("C")

_MAX_MULTIPLE = 1e12
"""Of a limit: what costs more is out of the question all the same, and its products stay finite."""


@dataclass(frozen=True)
class Item(Generic[C]):
    """Something for which one of several choices has to be made: bits or format of a layer, rank of a matrix.

    Args:
        choices: what can be chosen.
        damage: what each choice does, in one unit for all items; infinity rules a choice out.
        costs: by resource (bytes, seconds, …), what each choice costs, not negative.

    Raises:
        ValueError: there are no choices, their numbers differ, or a figure is not a number.
    """

    choices: Sequence[C]
    damage: Sequence[float] | np.ndarray
    costs: Mapping[str, Sequence[float] | np.ndarray]

    def __post_init__(self) -> None:
        for name, figures in {"damage": self.damage, **self.costs}.items():
            array = np.asarray(figures, np.float64)
            if array.shape != (len(self.choices),):
                raise ValueError(f"{name} has shape {array.shape} for {len(self.choices)} choices")
            sound = array > -np.inf if name == "damage" else (array >= 0) & (array < np.inf)  # neither holds of NaN
            if not sound.all():
                raise ValueError(f"{name} of a choice is not a number, infinite or negative: {array.tolist()}")
        if not np.less(self.damage, np.inf).any():
            raise ValueError("an item needs a choice of finite damage")


@dataclass(frozen=True)
class Allocation(Generic[C]):
    """One choice for every item.

    Args:
        choices: what was chosen, by item.
        damage: the sum over the items.
        costs: by resource, the sum over the items.
        met: whether the costs are within the limits; otherwise this is the choice of least cost.
        bound: no choice within the limits does less damage than this; equal to ``damage`` when that is the optimum,
            infinite when no choice is within the limits.
    """

    choices: dict[str, C]
    damage: float
    costs: dict[str, float]
    met: bool
    bound: float

    @property
    def optimal(self) -> bool:
        """Whether no other choice within the limits does less damage."""
        return self.met and self.bound >= self.damage


def knapsack(items: Mapping[str, Item[C]], limits: Mapping[str, float]) -> Allocation[C]:
    """The choice of least damage within limits.

    Args:
        items: by name, what can be chosen.
        limits: by resource, the highest sum of costs, met up to a relative 1e-9.

    Raises:
        ValueError: an item says no cost of a resource that has a limit, or a limit is negative or not a number.

    >>> layers = {
    ...     "first": Item((8, 4, 2), damage=(0.0, 0.1, 0.9), costs={"bytes": (80, 40, 20)}),
    ...     "last": Item((8, 4, 2), damage=(0.0, 0.3, 2.0), costs={"bytes": (80, 40, 20)}),
    ... }
    >>> best = knapsack(layers, {"bytes": 120})
    >>> best.choices, best.damage, best.costs, best.optimal
    ({'first': 4, 'last': 8}, 0.1, {'bytes': 120.0}, True)
    """
    instance = _instance(items, limits)
    optimum = search(instance, relax(instance))
    picks = instance.cheapest() if optimum.picks is None else optimum.picks
    pairs = [(item, int(pick)) for item, pick in zip(items.values(), picks, strict=True)]
    return Allocation(
        {name: item.choices[pick] for name, (item, pick) in zip(items, pairs, strict=True)},
        instance.damage_of(picks),
        {resource: float(sum(item.costs[resource][pick] for item, pick in pairs)) for resource in limits},
        optimum.picks is not None,
        optimum.bound,
    )


def _instance(items: Mapping[str, Item[C]], limits: Mapping[str, float]) -> Instance:
    """The items as arrays, with costs in units of the limits."""
    wrong = [f"{resource}={limit}" for resource, limit in limits.items() if not limit >= 0]
    if wrong:
        raise ValueError(f"a limit is negative or not a number: {', '.join(wrong)}")
    width = max((len(item.choices) for item in items.values()), default=1)
    damage = np.full((len(items), width), np.inf)
    costs = np.zeros((len(items), width, len(limits)))
    for row, (name, item) in enumerate(items.items()):
        missing = [resource for resource in limits if resource not in item.costs]
        if missing:
            raise ValueError(f"the item {name!r} says no cost of {', '.join(missing)}, which has a limit")
        damage[row, : len(item.choices)] = item.damage
        for column, (resource, limit) in enumerate(limits.items()):
            costs[row, : len(item.choices), column] = _in_units_of(limit, item.costs[resource])
    return Instance(damage, costs, np.array([(1.0 + TOLERANCE) * (limit > 0) for limit in limits.values()]))


def _in_units_of(limit: float, costs: Sequence[float] | np.ndarray) -> np.ndarray:
    """Costs as multiples of their limit; of a limit of 0, as they are."""
    with np.errstate(over="ignore"):
        return np.minimum(np.asarray(costs, np.float64) / (limit or 1.0), _MAX_MULTIPLE)
