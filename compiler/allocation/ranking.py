"""Units of all items in one ranking: the least important go first, wherever they are, until the limit is met.

Scores have to be comparable between items, so they come normalized. The shortest prefix of the ranking that meets the
limit is found by bisection. An item never falls below its smallest size, and keeps the next larger allowed one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphpress.allocation.costs import CostModel, Sizes


def ranking(sizes: Sizes, scores: Mapping[str, np.ndarray], costs: CostModel, limit: float) -> dict[str, int]:
    """Remove the units of lowest score over all items.

    Args:
        sizes: how many units each item may keep.
        scores: importance of each unit, ``(units,)`` by item.
        costs: of the model; left at the sizes that were chosen.
        limit: the highest cost allowed.

    Returns:
        The size of every item; each at its smallest where that does not meet the limit.
    """
    names = list(sizes)
    owner = np.repeat(np.arange(len(names)), [len(scores[name]) for name in names])
    order = np.argsort(np.concatenate([scores[name] for name in names]), kind="stable") if names else owner
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        costs.resize(_sizes_without(sizes, owner[order[:middle]]))
        low, high = (low, middle) if costs.current <= limit else (middle + 1, high)
    costs.resize(_sizes_without(sizes, owner[order[:low]]))
    return costs.sizes


def _sizes_without(sizes: Sizes, gone: np.ndarray) -> dict[str, int]:
    """The smallest allowed sizes that keep every unit outside the prefix, whose owners are given by number."""
    removed = np.bincount(gone, minlength=len(sizes))
    return {
        name: int(choices[np.flatnonzero(choices >= choices[0] - removed[index])[-1]])
        for index, (name, choices) in enumerate(sizes.items())
    }
