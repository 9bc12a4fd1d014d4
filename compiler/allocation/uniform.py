"""The same fraction of every item goes.

The smallest fraction that meets the limit is found by bisection: the cost falls as the fraction grows.
"""

from __future__ import annotations

from graphpress.allocation.costs import CostModel, Sizes, sizes_at

LEVELS = 4096
"""Fractions that the bisection tells apart."""


def uniform(sizes: Sizes, costs: CostModel, limit: float) -> dict[str, int]:
    """Take the same fraction from every item.

    Args:
        sizes: what each item may have.
        costs: of the model; left at the sizes that were chosen.
        limit: the highest cost allowed.

    Returns:
        The size of every item; each at its smallest where that does not meet the limit.
    """
    low, high = 0, LEVELS
    while low < high:
        middle = (low + high) // 2
        costs.resize(sizes_at(sizes, 1 - middle / LEVELS))
        low, high = (low, middle) if costs.current <= limit else (middle + 1, high)
    costs.resize(sizes_at(sizes, 1 - low / LEVELS))
    return costs.sizes
