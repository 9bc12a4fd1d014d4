"""What a goal counts, as a function of how many units each group keeps: pruning's cost model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphpress.allocation import Goal, Resource
from graphpress.coupling.cost import GroupCosts, Totals

_COUNTED: Mapping[Resource, Callable[[Totals], float]] = {
    "units": lambda totals: totals.units,
    "macs": lambda totals: totals.macs,
    "parameters": lambda totals: totals.parameters,
    "seconds": lambda totals: totals.seconds,
}


class CountCosts:
    """The cost model (``graphpress.allocation.CostModel``) of a goal over coupled groups.

    Args:
        costs: of the model, by group; in seconds as well where the goal is a speed-up.
        goal: which of its totals counts.
    """

    def __init__(self, costs: GroupCosts, goal: Goal) -> None:
        self._costs, self._counted = costs, _COUNTED[goal.resource]
        self.full = self._counted(costs.full)

    @property
    def current(self) -> float:
        """The cost at the current counts."""
        return self._counted(self._costs.totals)

    @property
    def sizes(self) -> dict[str, int]:
        """Kept units by group."""
        return self._costs.counts

    def trial(self, item: str, size: int) -> float:
        """The cost if so many units of a group stayed; nothing changes."""
        return self._counted(self._costs.trial(item, size))

    def resize(self, sizes: Mapping[str, int]) -> None:
        """Let so many units of these groups stay."""
        self._costs.keep_all(sizes)

    @property
    def kept(self) -> float:
        """The fraction of the whole model's cost that stays."""
        return self.current / self.full if self.full else 1.0
