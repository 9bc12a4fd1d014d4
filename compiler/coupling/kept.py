"""Which positions of an axis are left after channels went, counted in the model as it was before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Kept = tuple[np.ndarray | None, ...]
"""Positions of each axis that are still there; None for an axis that is whole."""


def composed(before: Mapping[str, Kept], now: Mapping[str, Kept]) -> dict[str, Kept]:
    """The positions of a removal counted in the model as it was before all removals.

    Args:
        before: what the removals before it kept, counted in that model.
        now: what this one keeps of what they left.

    >>> composed({"w": (np.array([0, 2, 3]), None)}, {"w": (np.array([1, 2]), None)})["w"][0].tolist()
    [2, 3]
    """
    return {
        name: tuple(
            _then(first, second) for first, second in zip(before.get(name, (None,) * len(kept)), kept, strict=True)
        )
        for name, kept in now.items()
    }


def _then(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    return second if first is None else first if second is None else first[second]
