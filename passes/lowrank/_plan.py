"""Which layers are decomposed, into which form at which ranks.

goal      macs_kept, params_kept: the exact knapsack over all layers, forms and ranks
energy    by layer the cheapest form and ranks that keep so much of the variance of its output
ranks     by layer a share of the full ranks, or what its weight has above noise
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from graphpress.allocation import Goal
from graphpress.analysis.cost import ModelCost
from graphpress.ir import Model, Node, Refusal
from graphpress.manager.contract import Context
from graphpress.observation import Pieces
from graphpress.passes.lowrank._allocate import LayerChoices, allocate, lowest_within, probed, sensitivities
from graphpress.passes.lowrank._alternating import decompose
from graphpress.passes.lowrank._errors import SWEEPS, RankChoice, choice_at, choices, rank_at
from graphpress.passes.lowrank._form import Form, Ranks
from graphpress.passes.lowrank._layer import LayerProblem
from graphpress.passes.lowrank._layers import DecomposableLayer
from graphpress.passes.lowrank._problems import problem_of, problems
from graphpress.passes.lowrank._vbmf import bayesian_rank
from graphpress.passes.lowrank.svd import Svd

NOT_CHEAPER = "no such rank makes it cheaper"
NOT_CHOSEN = "other layers save as much at less damage"


@dataclass
class RankPlan:
    """What becomes of the layers.

    Args:
        chosen: by node; layers that are not named stay whole.
        refusals: why they do, and what of a goal is missing.
    """

    chosen: dict[Node, RankChoice] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True)
class RankPlanner:
    """Chooses for all layers of a model.

    Args:
        model: not changed.
        layers: that may be decomposed.
        forms: to choose from, by name.
        multiple: what ranks are multiples of.
        data: what layers are judged on; None to judge by their weights.
        positions: rows of the data that are looked at in each sample.
        context: of the pass.
    """

    model: Model
    layers: Mapping[Node, DecomposableLayer]
    forms: Mapping[str, Form]
    multiple: int
    data: Pieces | None
    positions: int
    context: Context

    def of_goal(self, goal: Goal, cost: ModelCost) -> RankPlan:
        """The least damage within a goal for the whole model."""
        survey = self._survey()
        weights = sensitivities(self.model, survey, cost.macs, self.context)
        best, shortfall = allocate(survey, weights, goal, float(getattr(cost, goal.resource)))
        refusals = [] if shortfall is None else [shortfall]
        return RankPlan(best, refusals + _whole(survey, best, NOT_CHOSEN))

    def of_energy(self, share: float) -> RankPlan:
        """By layer the cheapest choice that keeps this share of the variance of its output."""
        survey = self._survey()
        best = lowest_within(survey, 1 - share)
        return RankPlan(best, _whole(survey, best, f"no cheaper rank keeps {share:.1%} of the variance of its output"))

    def of_share(self, share: float) -> RankPlan:
        """The same share of the full ranks in every layer."""
        return self._by_rule(
            lambda form, problem: tuple(rank_at(full, share, self.multiple) for full in form.full_ranks(problem))
        )

    def of_noise(self) -> RankPlan:
        """The ranks that weights have above noise."""
        return self._by_rule(
            lambda form, problem: tuple(
                min(full, max(bayesian_rank(matrix) for matrix in unfolded))
                for full, unfolded in zip(form.full_ranks(problem), form.unfoldings(problem), strict=True)
            )
        )

    def _by_rule(self, ranks: Callable[[Form, LayerProblem], Ranks]) -> RankPlan:
        """The first form that fits, at ranks that its weight says."""
        plan = RankPlan()
        for node, layer in self.layers.items():
            problem = problem_of(layer.op, None)
            form = next(self._fitting(problem))
            choice = choice_at(layer, problem, form, ranks(form, problem))
            if choice is None:
                plan.refusals.append(Refusal.at(node, NOT_CHEAPER, "ask for less"))
            else:
                plan.chosen[node] = choice
        return plan

    def _survey(self) -> dict[Node, LayerChoices]:
        """What each layer may become, and the chain that is measured."""
        ops = [layer.op for layer in self.layers.values()]
        judged = problems(self.model, ops, self.data, self.context, self.positions)
        return {op.node: self._choices(self.layers[op.node], problem) for op, problem in judged}

    def _choices(self, layer: DecomposableLayer, problem: LayerProblem) -> LayerChoices:
        options = choices(layer, problem, self._fitting(problem), self.multiple)
        probe = probed(options)
        if probe is None:
            return LayerChoices(layer, options)
        form = self.forms[probe.form]
        return LayerChoices(
            layer, options, (probe, form.stages(decompose(form, problem, probe.ranks, SWEEPS), problem))
        )

    def _fitting(self, problem: LayerProblem) -> Iterator[Form]:
        """The forms for a layer; a product's, and a 1×1 convolution's, is always the singular value decomposition."""
        fitting = [form for form in self.forms.values() if form.fits(problem.kernel)]
        return iter(fitting or [Svd()])


def _whole(survey: Mapping[Node, LayerChoices], best: Mapping[Node, RankChoice], why: str) -> list[Refusal]:
    """Why layers stay whole."""
    return [
        Refusal.at(node, why if layer.choices else NOT_CHEAPER) for node, layer in survey.items() if node not in best
    ]
