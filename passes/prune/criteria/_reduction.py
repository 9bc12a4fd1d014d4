"""From the scores of the units at each place of a group to one score a unit.

A group of coupled channels has many places: rows of the weight that writes it, columns of the weights that read it,
norm parameters. Each gives its own scores; ``combine`` makes one of them (Fang et al., DepGraph, arXiv 2301.12900,
section 3.3). Scores in units of the loss are comparable as they are, and dividing them by anything of their own group
takes that away. Weights are not: ``normalize`` makes them comparable, for a ranking over the whole model. Divided place
by place, a unit scores the share of each layer that it makes up, so that one which many layers read (the stream of a
residual network) counts in each of them; divided by the group's own mean it would look as cheap as any other.

What writes a unit and what reads it act one after the other: a unit that nothing writes, or nothing reads, scores 0,
whatever its other end says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from graphpress.errors import UsageError, did_you_mean

Role = Literal["writes", "reads", "elementwise"]
Combine = Literal["sum", "mean", "max", "first"]
Normalize = Literal["none", "place", "mean", "max", "l2", "size", "lamp"]

ROLES: tuple[Role, ...] = get_args(Role)
_TINY = np.finfo(np.float64).tiny
_DEAD = 1e-9
"""Relative to the mean over the units."""


@dataclass(frozen=True)
class Share:
    """The scores of a group's units at one place.

    Args:
        scores: ``(units,)`` float64, higher = more important.
        elements: ``(units,)``, how many numbers each score was made from.
        factor: places with the same one act side by side (all that read the unit), others one after the other; empty
            where the unit lives without the place (a bias).
    """

    scores: np.ndarray
    elements: np.ndarray
    factor: str = ""


@dataclass(frozen=True)
class Reduction:
    """How the places of a group make one score a unit, and how groups are made comparable.

    Args:
        combine: sum, mean or maximum over the places, or the first place alone.
        roles: which constants count: weights that write the units, weights that read them, elementwise parameters
            (biases, norm parameters). A group that has none of these is judged by all of its constants.
        normalize: ``none``; ``place``: divide what each place says by its mean over the units; divide by the group's
            ``mean``, ``max`` or ``l2`` norm; ``size``: divide what each place says by the count of numbers it was made
            from; ``lamp``: divide each squared score by the sum of those not below it (Lee et al., LAMP, arXiv
            2010.07611, equation 3).

    Raises:
        UsageError: a choice that is none of these.
    """

    combine: Combine = "sum"
    roles: tuple[Role, ...] = ("reads",)
    normalize: Normalize = "none"

    def __post_init__(self) -> None:
        _check("combine", self.combine, get_args(Combine))
        _check("normalize", self.normalize, get_args(Normalize))
        for role in self.roles:
            _check("roles", role, ROLES)

    def __call__(self, shares: Sequence[Share]) -> np.ndarray:
        """One score a unit, ``(units,)`` float64, from at least one share."""
        scaled = [self._scaled(share) for share in shares]
        scores = _combined(np.stack([share.scores for share in scaled]), self.combine)
        return self._normalized(np.where(_is_dead(scaled), 0.0, scores))

    def _scaled(self, share: Share) -> Share:
        if self.normalize == "size":
            return replace(share, scores=share.scores / np.maximum(share.elements, 1))
        if self.normalize == "place":
            return replace(share, scores=share.scores / max(float(np.abs(share.scores).mean()), _TINY))
        return share

    def _normalized(self, scores: np.ndarray) -> np.ndarray:
        if self.normalize == "lamp":
            return _lamp(scores)
        scale = {"mean": np.abs(scores).mean(), "max": np.abs(scores).max(), "l2": np.linalg.norm(scores)}
        return np.asarray(scores / max(float(scale.get(self.normalize, 1.0)), _TINY))


def _combined(table: np.ndarray, how: Combine) -> np.ndarray:
    if how == "first":
        return np.asarray(table[0])
    if how == "max":
        return np.asarray(table.max(axis=0))
    return np.asarray(table.sum(axis=0) / (len(table) if how == "mean" else 1))


def _is_dead(shares: Sequence[Share]) -> np.ndarray:
    """Which units score next to nothing in all places that act side by side: nothing gets through there."""
    dead = np.zeros(len(shares[0].scores), bool)
    for factor in {share.factor for share in shares} - {""}:
        total = np.sum([np.abs(share.scores) for share in shares if share.factor == factor], axis=0)
        dead |= total <= _DEAD * total.mean()
    return dead


def _lamp(scores: np.ndarray) -> np.ndarray:
    """The best unit of every group scores 1, so that a ranking over all groups never empties one."""
    order = np.argsort(scores, kind="stable")
    squares = np.square(scores[order])
    not_below = np.cumsum(squares[::-1])[::-1]
    result: np.ndarray = np.empty_like(squares)
    result[order] = squares / np.maximum(not_below, _TINY)
    return result


def _check(field: str, choice: str, known: tuple[str, ...]) -> None:
    if choice not in known:
        raise UsageError(f"{choice!r} is no choice", where=field, fix=did_you_mean(choice, known))


BY_WEIGHTS = Reduction("sum", ("writes", "reads"), "place")
"""For criteria that look at weights alone: at both ends of a unit, without the scale of either."""
