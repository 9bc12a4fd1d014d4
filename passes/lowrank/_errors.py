"""The error of a layer at each rank that it may have: what allocations choose from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphpress.passes.lowrank._alternating import refine
from graphpress.passes.lowrank._chain import ChainCost
from graphpress.passes.lowrank._form import Form, Ranks
from graphpress.passes.lowrank._layer import LayerProblem
from graphpress.passes.lowrank._layers import DecomposableLayer

SWEEPS = 2
"""Rounds of the alternation for a choice that is only judged."""
FRACTIONS = tuple(step / 12 for step in range(1, 12))
"""Of the full ranks: the choices of a form."""


@dataclass(frozen=True)
class RankChoice:
    """A form and ranks for a layer.

    Args:
        form: by name.
        ranks: of the form.
        error: relative error of the layer's output.
        cost: of the chain.
    """

    form: str
    ranks: Ranks
    error: float
    cost: ChainCost


def choices(
    candidate: DecomposableLayer, problem: LayerProblem, forms: Iterable[Form], multiple: int
) -> list[RankChoice]:
    """What a layer may become: all that costs less than the layer, by form from low ranks to high ones."""
    chosen = []
    for form in forms:
        for ranks in _ladder(form.full_ranks(problem), multiple):
            choice = choice_at(candidate, problem, form, ranks)
            if choice is None:
                break
            chosen.append(choice)
    return chosen


def choice_at(candidate: DecomposableLayer, problem: LayerProblem, form: Form, ranks: Ranks) -> RankChoice | None:
    """A choice with its error, or None where it costs no less than the layer."""
    factors = form.start(problem, ranks)
    cost = candidate.places.cost(form.stages(factors, problem))
    if not cost.saves(candidate.whole):
        return None
    if form.alternates:
        factors = refine(form, factors, problem, SWEEPS)
    return RankChoice(form.name, ranks, problem.error(form.matrix(factors, problem)), cost)


def _ladder(full: Ranks, multiple: int) -> list[Ranks]:
    """Ranks at ``FRACTIONS`` of the full ones, in multiples where they are longer than one."""
    return list(dict.fromkeys(tuple(rank_at(size, share, multiple) for size in full) for share in FRACTIONS))


def rank_at(full: int, share: float, multiple: int = 1) -> int:
    """The rank nearest to a share of the full one that is a multiple, or any where there is none below it."""
    step = multiple if multiple < full else 1
    return min(max(step * round(share * full / step), step), full)
