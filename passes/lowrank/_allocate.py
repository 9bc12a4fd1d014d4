"""Which form and ranks each layer gets: least damage within a goal, exactly; or ranks by a rule, layer by layer.

    minimize Σ_l κ_l · e_l(c_l)   subject to   Σ_l cost_l(c_l) ≤ limit

e is the relative error of a layer's output at a choice, and κ what such an error does to the model: both the divergence
of its outputs and e are squares of one small change, so that one measurement a layer gives their ratio. Costs of
layers add up, so the knapsack is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphpress.allocation import Goal, Item, knapsack
from graphpress.evaluation.sensitivity import SAMPLES
from graphpress.ir import Editor, Model, Node, Refusal, clone, label
from graphpress.manager.contract import Context
from graphpress.passes.lowrank._errors import RankChoice
from graphpress.passes.lowrank._form import ChainStage
from graphpress.passes.lowrank._layers import DecomposableLayer
from graphpress.passes.lowrank._write import write_chain

PROBE_ERROR = 0.1
"""The choice of a layer whose error is nearest to this one is measured: large enough to be seen, and still small."""
MAX_MACS = 1e14
"""Multiply-accumulates up to which measuring all layers is worth it."""
NO_CHOICE = "no rank makes it cheaper"


@dataclass(frozen=True)
class LayerChoices:
    """What a layer may become.

    Args:
        candidate: the layer.
        choices: each costs less than the layer.
        probe: the chain that is measured, with its choice; None where there are no choices.
    """

    candidate: DecomposableLayer
    choices: Sequence[RankChoice]
    probe: tuple[RankChoice, Sequence[ChainStage]] | None = None


def probed(choices: Sequence[RankChoice]) -> RankChoice | None:
    """The choice to measure a layer's damage at."""
    return min(choices, key=lambda choice: abs(np.log(max(choice.error, 1e-12) / PROBE_ERROR)), default=None)


def sensitivities(model: Model, layers: Mapping[Node, LayerChoices], macs: int, context: Context) -> dict[Node, float]:
    """By layer the damage of an error of one, measured at one choice each.

    The same for all layers where there is no data, or measuring would take too long.
    """
    measured = {node: layer for node, layer in layers.items() if layer.probe is not None}
    if context.evaluation is None or macs * SAMPLES * len(measured) > MAX_MACS:
        return dict.fromkeys(measured, 1.0)
    measure = context.evaluation.damage(model)
    ratios = dict[Node, float]()
    for node, layer in context.progress.track(measured.items(), "measuring layers", len(measured)):
        assert layer.probe is not None
        choice, stages = layer.probe
        damage = measure.damage(_with_chain(model, node, layer.candidate, stages))
        ratios[node] = damage / max(choice.error, 1e-12)
    return ratios


def _with_chain(model: Model, node: Node, candidate: DecomposableLayer, stages: Sequence[ChainStage]) -> Model:
    """A copy in which one layer is a chain."""
    copy = clone(model)
    twin = next(other for other in copy.graph if label(other) == label(node))
    write_chain(Editor(copy), replace(candidate.op, node=twin), stages, None)
    return copy


def allocate(
    layers: Mapping[Node, LayerChoices], weights: Mapping[Node, float], goal: Goal, whole: float
) -> tuple[dict[Node, RankChoice], Refusal | None]:
    """One choice for each layer that does not stay whole.

    Args:
        layers: with what they may become.
        weights: κ of each.
        goal: on multiply-accumulates or parameters.
        whole: cost of the model.

    Returns:
        The choices, and why the goal is not met where it is not.
    """
    items = {label(node): _item(layer, weights.get(node, 1.0), goal) for node, layer in layers.items()}
    rest = whole - sum(item.costs[goal.resource][0] for item in items.values())
    best = knapsack(items, {goal.resource: max(goal.limit(whole) - rest, 0.0)})
    chosen = {node: choice for node in layers if (choice := best.choices[label(node)]) is not None}
    if best.met and goal.limit(whole) >= rest:
        return chosen, None
    reached = (rest + best.costs[goal.resource]) / max(whole, 1)
    why = f"{goal.describe(goal.budget)} cannot be reached: with all layers at their lowest ranks it is "
    return chosen, Refusal(goal.where, why + goal.describe(reached), "ask for less, or exclude fewer layers")


def _item(layer: LayerChoices, weight: float, goal: Goal) -> Item[RankChoice | None]:
    options: list[RankChoice | None] = [None, *layer.choices]
    costs = [layer.candidate.whole, *(choice.cost for choice in layer.choices)]
    damage = [0.0, *(weight * choice.error for choice in layer.choices)]
    return Item(options, damage, {goal.resource: [float(getattr(cost, goal.resource)) for cost in costs]})


def lowest_within(layers: Mapping[Node, LayerChoices], error: float) -> dict[Node, RankChoice]:
    """By layer the cheapest choice whose error is at most this."""
    good = {node: [choice for choice in layer.choices if choice.error <= error] for node, layer in layers.items()}
    return {node: min(some, key=lambda choice: choice.cost.macs) for node, some in good.items() if some}
