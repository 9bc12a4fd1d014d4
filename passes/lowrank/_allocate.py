"""Which form and ranks each layer gets: least damage within a goal, exactly; or the cheapest within an error.

    minimize Σ_l D_l(e_l(c_l))   subject to   Σ_l cost_l(c_l) ≤ limit

e is the relative error of a layer's output at a choice, and D what such an error does to the model. Costs of layers add
up, so the knapsack is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from graphpress.allocation import Goal, Item, knapsack
from graphpress.allocation.goal import TOLERANCE, Resource
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


@dataclass(frozen=True)
class Frontier:
    """The choices of least damage, for whatever may be spent.

    Args:
        layers: by name, with what they may become.
        resource: that is spent.
        whole: what the model costs of it.
    """

    layers: Mapping[str, LayerChoices]
    resource: Resource
    whole: float

    def at(self, share: float) -> tuple[dict[str, RankChoice], float]:
        """The layers that do not stay whole where this share of the cost stays, and the share that they do leave.

        That is the larger one where not even the lowest ranks cost so little.
        """
        best = knapsack(self._items, {self.resource: max((share + TOLERANCE) * self.whole - self._rest, 0.0)})
        chosen = {name: choice for name, choice in best.choices.items() if choice is not None}
        return chosen, (self._rest + best.costs[self.resource]) / max(self.whole, 1e-300)

    @cached_property
    def least(self) -> float:
        """The share that stays with all layers at their lowest ranks."""
        return self.at(0.0)[1]

    @cached_property
    def _items(self) -> dict[str, Item[RankChoice | None]]:
        return {name: layer.item(self.resource) for name, layer in self.layers.items()}

    @property
    def _rest(self) -> float:
        """The cost of all that stays as it is anyway."""
        return self.whole - sum(float(item.costs[self.resource][0]) for item in self._items.values())


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
    chosen, kept = Frontier(layers, goal.resource, whole).at(goal.budget)
    if kept <= goal.budget + 2 * TOLERANCE:
        return chosen, None
    reached = goal.describe(kept)
    why = f"{goal.describe(goal.budget)} cannot be reached: with all layers at their lowest ranks it is {reached}"
    return chosen, Refusal(goal.where, why, "ask for less, or exclude fewer layers")


def cheapest_within(layers: Mapping[str, LayerChoices], error: float) -> dict[str, RankChoice]:
    """By layer the choice of fewest multiply-accumulates whose error is at most this."""
    good = {name: [choice for choice in layer.choices if choice.error <= error] for name, layer in layers.items()}
    return {name: min(some, key=lambda choice: choice.cost.macs) for name, some in good.items() if some}
