"""What a layer may become, with its error and cost: what allocations choose from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from graphpress.passes.lowrank._alternating import JUDGING, decompose
from graphpress.passes.lowrank._candidates import DecomposableLayer
from graphpress.passes.lowrank._chain import ChainCost
from graphpress.passes.lowrank._form import Form, Ranks
from graphpress.passes.lowrank._problem import LayerProblem

FRACTIONS = tuple(step / 12 for step in range(1, 12))
"""Of the full ranks: the choices of a form."""


@dataclass(frozen=True)
class RankChoice:
    """A form and ranks for a layer.

    Args:
        form: by name.
        ranks: of the form.
        error: of the layer's output, relative to its variance; of no meaning where nobody asked for it.
        cost: of the chain.
        replaced: what the layer costs as it is, its time taken as that of the chain; None where nobody recorded it.
    """

    form: str
    ranks: Ranks
    error: float
    cost: ChainCost
    replaced: ChainCost | None = None


def choices(layer: DecomposableLayer, problem: LayerProblem, forms: Iterable[Form], multiple: int) -> list[RankChoice]:
    """All that costs less than the layer, by form from low ranks to high ones."""
    options = []
    for form in forms:
        for ranks in _ladder(form.full_ranks(problem), multiple):
            choice = choice_at(layer, problem, form, ranks)
            if choice is None:
                break
            options.append(choice)
    return options


def choice_at(layer: DecomposableLayer, problem: LayerProblem, form: Form, ranks: Ranks) -> RankChoice | None:
    """A choice, or None where it costs no less than the layer."""
    cost = cost_at(layer, problem, form, ranks)
    if not layer.gains(cost, form):
        return None
    return RankChoice(form.name, ranks, error_at(problem, form, ranks), cost, layer.whole)


def cost_at(layer: DecomposableLayer, problem: LayerProblem, form: Form, ranks: Ranks) -> ChainCost:
    """What the chain costs, with the bias that it gets where the layer has none."""
    cost, op = layer.cost(form.outline(problem, ranks)), layer.op
    gets_bias = problem.mean is not None and op.bias_index is not None and op.bias is None
    return replace(cost, parameters=cost.parameters + op.channels_out) if gets_bias else cost


def error_at(problem: LayerProblem, form: Form, ranks: Ranks) -> float:
    """The relative error at these ranks, up to what more rounds would gain."""
    known = form.known_error(problem.with_equal_outputs, ranks)
    return problem.error(form.matrix(decompose(form, problem, ranks, JUDGING), problem)) if known is None else known


def efficient(options: Iterable[RankChoice], most: int) -> list[RankChoice]:
    """Those of which no other has less error and fewer multiply-accumulates; of more than ``most`` some, spread out."""
    front = list[RankChoice]()
    for choice in sorted(options, key=lambda choice: (choice.cost.macs, choice.error)):
        if not front or choice.error < front[-1].error:
            front.append(choice)
    if len(front) <= most:
        return front
    return [front[round(place * (len(front) - 1) / (most - 1))] for place in range(most)]


def _ladder(full: Ranks, multiple: int) -> list[Ranks]:
    """Ranks at ``FRACTIONS`` of the full ones, in multiples where they are longer than one."""
    return list(dict.fromkeys(tuple(rank_at(size, share, multiple) for size in full) for share in FRACTIONS))


def rank_at(full: int, share: float, multiple: int = 1) -> int:
    """The rank nearest to a share of the full one that is a multiple, or any where there is none below it."""
    step = multiple if multiple < full else 1
    return min(max(step * round(share * full / step), step), full)
