"""Pruning in several steps: what each is to reach, and what those before it have done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from graphpress.allocation import Goal
from graphpress.coupling import Coupling, Group
from graphpress.coupling.kept import Kept
from graphpress.ir import Value, label


@dataclass
class PruneHistory:
    """What the steps so far have done.

    Args:
        first: the groups before the first step; None until then.
        kept: by the name of a value, the positions that are left of those at first.
    """

    first: Coupling | None = None
    kept: dict[str, Kept] = field(default_factory=dict)

    def sizes_at_first(self, coupling: Coupling) -> dict[str, float]:
        """The size of each group of now before the first step, by how many positions of one of its constants it lost.

        Groups are recognized by where they lie, for their names and what counts as a unit may change between steps.
        """
        before = self._units_at_first()
        return {group.name: self._size_at_first(group, before) for group in coupling.groups}

    def _units_at_first(self) -> dict[tuple[Value, int], list[np.ndarray]]:
        """By constant and axis, the units of each group that lay there."""
        before: dict[tuple[Value, int], list[np.ndarray]] = {}
        for group in self.first.groups if self.first is not None else ():
            for place in group.constants:
                before.setdefault((place.value, place.axis), []).append(place.units)
        return before

    def _size_at_first(self, group: Group, before: Mapping[tuple[Value, int], list[np.ndarray]]) -> float:
        place = group.constants[0]
        mine = np.flatnonzero(place.units >= 0)
        kept = self.kept.get(label(place.value), (None,) * (place.axis + 1))[place.axis]
        position = mine[0] if kept is None else kept[mine[0]]
        candidates = before.get((place.value, place.axis), ())
        units = next((units for units in candidates if units[position] >= 0), place.units)
        return group.size * int((units >= 0).sum()) / len(mine)


@dataclass(frozen=True)
class PruneStep:
    """One of the steps.

    Args:
        number: which, from 1 on.
        goal: what this step is to reach, from where it starts.
        key: under which its allocation is recorded.
        history: the steps before it.
    """

    number: int
    goal: Goal
    key: str
    history: PruneHistory
