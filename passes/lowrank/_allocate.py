"""Which form and ranks each layer gets: least damage within a goal, exactly; or the cheapest within an error.

    minimize Σ_l D_l(e_l(c_l))   subject to   Σ_l cost_l(c_l) ≤ limit

e is the relative error of a layer's output at a choice, and D what such an error does to the model. Costs of layers add
up, so the knapsack is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphpress.allocation import Goal, Item, knapsack
from graphpress.ir import Refusal
from graphpress.passes.lowrank._chain import ChainCost
from graphpress.passes.lowrank._choices import RankChoice
from graphpress.passes.lowrank._sensitivity import DamageCurve

NOT_CHEAPER = "no such rank makes it cheaper"


@dataclass(frozen=True)
class LayerChoices:
    """What a layer may become.

    Args:
        whole: what it costs as it is.
        choices: in place of it.
        curve: what its errors do to the model, in one unit for all layers.
        why: the reason for which it stays whole where there are no choices.
    """

    whole: ChainCost
    choices: Sequence[RankChoice]
    curve: DamageCurve = field(default_factory=DamageCurve)
    why: str = NOT_CHEAPER

    def item(self, resource: str) -> Item[RankChoice | None]:
        """For the knapsack; None is to leave it whole."""
        options: list[RankChoice | None] = [None, *self.choices]
        costs = [self.whole, *(choice.cost for choice in self.choices)]
        harm = [0.0, *(self.curve.at(choice.error) for choice in self.choices)]
        return Item(options, harm, {resource: [float(getattr(cost, resource)) for cost in costs]})


def allocate(
    layers: Mapping[str, LayerChoices], goal: Goal, whole: float
) -> tuple[dict[str, RankChoice], Refusal | None]:
    """One choice for each layer that does not stay whole.

    Args:
        layers: by name, with what they may become.
        goal: on what they cost.
        whole: cost of the model.

    Returns:
        The choices, and why the goal is not met where it is not.
    """
    items = {name: layer.item(goal.resource) for name, layer in layers.items()}
    rest = whole - sum(item.costs[goal.resource][0] for item in items.values())
    best = knapsack(items, {goal.resource: max(goal.limit(whole) - rest, 0.0)})
    chosen = {name: choice for name, choice in best.choices.items() if choice is not None}
    if best.met and goal.limit(whole) >= rest:
        return chosen, None
    reached = goal.describe((rest + best.costs[goal.resource]) / max(whole, 1e-300))
    why = f"{goal.describe(goal.budget)} cannot be reached: with all layers at their lowest ranks it is {reached}"
    return chosen, Refusal(goal.where, why, "ask for less, or exclude fewer layers")


def cheapest_within(layers: Mapping[str, LayerChoices], error: float) -> dict[str, RankChoice]:
    """By layer the choice of fewest multiply-accumulates whose error is at most this."""
    good = {name: [choice for choice in layer.choices if choice.error <= error] for name, layer in layers.items()}
    return {name: min(some, key=lambda choice: choice.cost.macs) for name, some in good.items() if some}
