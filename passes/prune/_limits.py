"""Which numbers of units a group may keep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from graphpress.coupling.cost import GroupCosts
from graphpress.errors import UsageError

_ROUNDING = 1e-9
"""What a floor in units may be above a whole number that it means."""


@dataclass(frozen=True)
class Limits:
    """Which counts a group may have.

    Args:
        floor: at least this fraction of a group's units stays; one unit always does.
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

    def counts(self, costs: GroupCosts) -> dict[str, np.ndarray]:
        """The counts that each group may have, from whole downwards, by group in graph order."""
        return {
            name: self._counts(size, self.min_units(name, size), costs.positions(name))
            for name, size in costs.sizes.items()
        }

    def min_units(self, name: str, size: int) -> float:
        """The floor of a group that has so many units now, in units."""
        return min(self.floor * self.whole.get(name, size), size)

    def _counts(self, size: int, floor: float, positions: int) -> np.ndarray:
        step = self.multiple // math.gcd(self.multiple, positions)
        step = step if size > step else 1
        lowest = max(1, math.ceil(floor - _ROUNDING))
        counts = np.arange(step * math.ceil(lowest / step), size, step)[::-1]
        return np.concatenate([[size], counts])
