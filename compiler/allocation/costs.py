"""What solvers ask of a model's cost when the choices of its items influence each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

Sizes = Mapping[str, np.ndarray]
"""By item the sizes that it may have (channels, rank, bits), ``(choices,)`` int, decreasing, the unchanged first."""

SAVING_TOLERANCE = 1e-12
"""A saving below this fraction of the unchanged model's cost saves nothing."""


class CostModel(Protocol):
    """The cost of a whole model, in one unit, as a function of the size of every item.

    Items may influence each other (a layer costs kept inputs times kept outputs), so the cost is no sum over items. It
    must not grow when an item shrinks. Solvers leave the model at the sizes that they return.
    """

    @property
    def full(self) -> float:
        """The cost with every item at its unchanged size."""
        ...

    @property
    def current(self) -> float:
        """The cost at the current sizes."""
        ...

    @property
    def sizes(self) -> dict[str, int]:
        """The current size of every item."""
        ...

    def trial(self, item: str, size: int) -> float:
        """The cost if one item had another size; nothing changes."""
        ...

    def resize(self, sizes: Mapping[str, int]) -> None:
        """Give these items other sizes; items that are not named keep theirs."""
        ...


def sizes_at(sizes: Sizes, fraction: float) -> dict[str, int]:
    """For each item the size nearest to this fraction of the unchanged one, the larger of two.

    >>> sizes_at({"conv": np.array([8, 6, 4, 2])}, 0.6)
    {'conv': 4}
    """
    return {name: int(choices[np.argmin(np.abs(choices - fraction * choices[0]))]) for name, choices in sizes.items()}
