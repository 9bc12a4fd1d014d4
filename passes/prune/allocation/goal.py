"""What an allocation is asked for, between which bounds, and what came of it.

Every goal is a fraction of the whole model's cost that may stay, so that a strategy needs to know nothing of what the
cost is made of: units for ``ratio``, multiply-accumulates, parameters, or seconds for ``speedup``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from graphpress.coupling.cost import GroupCosts, Totals
from graphpress.errors import UsageError, did_you_mean
from graphpress.ir import Refusal

Kind = Literal["ratio", "macs_kept", "params_kept", "speedup"]

_COST: dict[str, Callable[[Totals], float]] = {
    "ratio": lambda totals: totals.units,
    "macs_kept": lambda totals: totals.macs,
    "params_kept": lambda totals: totals.parameters,
    "speedup": lambda totals: totals.seconds,
}

_SLACK = 1e-9
"""Sums of floats that should be equal differ by less, relative to the whole."""


@dataclass(frozen=True)
class Goal:
    """How much may stay.

    Args:
        kind: ``ratio``: so many of the units go; ``macs_kept`` and ``params_kept``: this fraction of
            multiply-accumulates or parameters stays; ``speedup``: the time falls by this factor.
        amount: the fraction or factor.

    Raises:
        UsageError: an amount that makes no sense, or no such kind.
    """

    kind: Kind
    amount: float

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(f"no such goal {self.kind!r}", where="prune", fix=did_you_mean(self.kind, get_args(Kind)))
        low, high = {"ratio": (0.0, 1.0), "speedup": (1.0, math.inf)}.get(self.kind, (0.0, 1.0))
        if not low <= self.amount <= high or self.budget <= 0 or not math.isfinite(self.amount):
            span = {"ratio": "from 0 to below 1", "speedup": "of 1 or more"}.get(self.kind, "above 0, at most 1")
            raise UsageError(f"{self.kind}={self.amount:g} cannot be", where="prune", fix=f"give a number {span}")

    @property
    def budget(self) -> float:
        """The fraction of the whole model's cost that may stay."""
        if self.kind == "ratio":
            return 1 - self.amount
        return 1 / self.amount if self.kind == "speedup" else self.amount

    def cost(self, totals: Totals) -> float:
        """What counts for this goal, in its own unit."""
        return _COST[self.kind](totals)

    def kept(self, costs: GroupCosts) -> float:
        """The fraction of the whole model's cost that the current counts keep."""
        whole = self.cost(costs.full)
        return self.cost(costs.totals) / whole if whole else 1.0

    def met(self, costs: GroupCosts) -> bool:
        """Whether the current counts are within the budget."""
        return self.allows(self.cost(costs.totals), self.cost(costs.full))

    def allows(self, cost: float, whole: float) -> bool:
        """Whether a cost is within the budget, given the whole model's."""
        return cost <= (self.budget + _SLACK) * whole

    def words(self, kept: float) -> str:
        """A kept fraction in the goal's words."""
        if self.kind == "ratio":
            return f"ratio {1 - kept:.3f}"
        return f"{self.kind} {1 / kept if self.kind == 'speedup' else kept:.3f}"


@dataclass(frozen=True)
class Limits:
    """Which counts a group may have.

    Args:
        floor: the least fraction of a group's units that stays; one unit always does.
        multiple: kept channels come in multiples of this, wherever a group has more than so many.
        whole: units that groups had at first, where some are gone already: what the floor is a fraction of.

    Raises:
        UsageError: a fraction outside 0 to 1, or a multiple below 1.
    """

    floor: float = 0.1
    multiple: int = 1
    whole: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise UsageError(f"floor={self.floor:g} is no fraction", where="prune", fix="give a number from 0 to 1")
        if self.multiple < 1:
            raise UsageError(f"multiple={self.multiple} cannot be", where="prune", fix="give 1 or more")

    def choices(self, costs: GroupCosts) -> dict[str, np.ndarray]:
        """The counts that each group may have, from whole downwards, by group in graph order."""
        return {
            name: self._choices(size, self.least(name, size), costs.positions(name))
            for name, size in costs.sizes.items()
        }

    def least(self, name: str, size: int) -> float:
        """The floor of a group that has so many units now, in units."""
        return min(self.floor * self.whole.get(name, size), size)

    def _choices(self, size: int, floor: float, positions: int) -> np.ndarray:
        step = self.multiple // math.gcd(self.multiple, positions)
        step = step if size > step else 1
        least = max(1, math.ceil(floor - _SLACK))
        counts = np.arange(step * math.ceil(least / step), size, step)[::-1]
        return np.concatenate([[size], counts])


@dataclass(frozen=True)
class Allocation:
    """How many units of each group stay.

    Args:
        counts: kept units by group name, in graph order.
        kept: the fraction of the whole model's cost that stays, in terms of the goal.
        shortfall: why the goal is not met, with the best that can be reached; None where it is.
        notes: sentences for the report.
    """

    counts: dict[str, int]
    kept: float
    shortfall: Refusal | None = None
    notes: tuple[str, ...] = ()


def settled(goal: Goal, costs: GroupCosts, limits: Limits) -> Allocation:
    """The current counts as an allocation, with what is missing to the goal."""
    kept = goal.kept(costs)
    if goal.met(costs):
        return Allocation(costs.counts, kept)
    why = f"{goal.words(goal.budget)} cannot be reached: with every group at its floor of {limits.floor:.0%} it is "
    fix = "ask for less, lower `floor`, or exclude fewer layers"
    return Allocation(costs.counts, kept, Refusal("prune", why + goal.words(kept), fix))
