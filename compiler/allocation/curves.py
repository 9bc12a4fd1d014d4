"""Damage curves: how much a group's removal hurts, as a function of the fraction that goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curve:
    """Damage over the removed fraction, linear in between and never falling.

    Args:
        removed: fractions of the group's units that go, increasing; 0 costs nothing and is added where missing.
        damage: what removing each fraction does, in any unit that all groups share.
    """

    removed: np.ndarray
    damage: np.ndarray

    @staticmethod
    def of_scores(scores: np.ndarray) -> Curve:
        """The curve of a group whose least important units go first: the sum of their scores."""
        ordered = np.sort(np.asarray(scores, np.float64))
        return Curve(np.arange(len(ordered) + 1) / len(ordered), np.concatenate([[0.0], np.cumsum(ordered)]))

    def at(self, counts: np.ndarray, size: int) -> np.ndarray:
        """Damage when so many of ``size`` units stay."""
        removed = np.concatenate([[0.0], self.removed])
        damage = np.maximum.accumulate(np.concatenate([[0.0], self.damage]).astype(np.float64))
        last = removed[-1]
        inside = np.interp(1 - np.asarray(counts) / size, removed, damage)
        beyond = np.maximum(1 - np.asarray(counts) / size - last, 0.0)
        return np.asarray(inside + beyond * self._slope(removed, damage))

    def _slope(self, removed: np.ndarray, damage: np.ndarray) -> float:
        """How damage grows behind the last known fraction: as it did before."""
        run = removed[-1] - removed[-2]
        return float((damage[-1] - damage[-2]) / run) if run > 0 else 0.0


def lower_hull(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Indices of the lower convex hull of points with increasing ``x`` (Andrew's monotone chain).

    >>> lower_hull(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 2.0, 1.0, 4.0]))
    [0, 2, 3]
    """
    hull: list[int] = []
    for index in range(len(x)):
        while len(hull) > 1 and _above(x, y, hull[-2], hull[-1], index):
            hull.pop()
        hull.append(index)
    return hull


def _above(x: np.ndarray, y: np.ndarray, left: int, middle: int, right: int) -> bool:
    """Whether the middle point lies on or above the line through the other two."""
    return bool((y[middle] - y[left]) * (x[right] - x[left]) >= (y[right] - y[left]) * (x[middle] - x[left]))
