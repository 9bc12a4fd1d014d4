"""Which layers are decomposed, into which form at which ranks.

goal      macs_kept, params_kept, speedup: the exact knapsack over all layers, forms and ranks
budget    the cheapest along the frontier of that knapsack that keeps the metric
energy    by layer the cheapest form and ranks that keep so much of the variance of its output
ranks     by layer a share of the full ranks, or what its weight has above noise
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from graphpress.allocation import Goal
from graphpress.analysis.cost import ModelCost
from graphpress.ir import Dims, Model, Refusal, clone, constant
from graphpress.manager.contract import Context
from graphpress.observation import Pieces
from graphpress.passes.lowrank._allocate import NOT_CHEAPER, Frontier, LayerChoices, allocate, cheapest_within
from graphpress.passes.lowrank._budget import AccuracyBudget, BudgetSearch
from graphpress.passes.lowrank._candidates import DecomposableLayer, layers_in
from graphpress.passes.lowrank._choices import RankChoice, choices, cost_at, rank_at
from graphpress.passes.lowrank._decompose import NOT_FINITE, decompose_layers
from graphpress.passes.lowrank._form import Form, Ranks
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank._observed import problem_of, problems
from graphpress.passes.lowrank._problem import LayerProblem, shape_of_problem
from graphpress.passes.lowrank._sensitivity import LayerSensitivity
from graphpress.passes.lowrank._slower import TimedAllocation, allocate_faster
from graphpress.passes.lowrank._speed import SpeedPlanner
from graphpress.passes.lowrank._vbmf import bayesian_rank

NOT_CHOSEN = "other layers save as much at less damage"
NOT_FASTER = "as a chain it is no faster, or other layers save as much at less damage"
NOT_WITHIN = "no rank that saves anything keeps the accuracy budget"
NOT_TIMED = "it was not timed: only layers of 32-bit floats are, outside of subgraphs"
NOT_MEASURED = "what errors in a layer do to the model was not measured ({}): all layers count alike"


@dataclass
class RankPlan:
    """What becomes of the layers.

    Args:
        chosen: by name; layers that are not named stay whole.
        refusals: why they do, and what of a goal is missing.
        notes: for the report.
    """

    chosen: dict[str, RankChoice] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RankPlanner:
    """Chooses for all layers of a model.

    Args:
        model: not changed.
        shapes: static, by value name.
        layers: that may be decomposed, by name.
        forms: names of those to choose from, the usual one first.
        multiple: what ranks are multiples of.
        data: what layers are judged on; None to judge by their weights.
        positions: rows of the data that are looked at in each sample.
        context: of the pass.
    """

    model: Model
    shapes: Mapping[str, Dims]
    layers: Mapping[str, DecomposableLayer]
    forms: Sequence[str]
    multiple: int
    data: Pieces | None
    positions: int
    context: Context

    def of_goal(self, goal: Goal, cost: ModelCost) -> RankPlan:
        """The least damage within a goal for the whole model."""
        survey, notes = self._judged(cost)
        if goal.kind == "speedup":
            return self._of_speedup(goal, survey, notes)
        whole = float(getattr(cost, goal.resource))
        if goal.kind == "macs_kept" and self.context.target.this_machine:
            speed = SpeedPlanner(self.model, self.shapes, self.layers, self.context)
            chosen = allocate_faster(survey, goal, whole, speed.slower)
        else:
            chosen = TimedAllocation(*allocate(survey, goal, whole))
        missing = [] if chosen.shortfall is None else [chosen.shortfall]
        faster = {name: layer for name, layer in survey.items() if name not in chosen.given_up}
        slower = {name: survey[name] for name in chosen.given_up}
        left = self._whole(faster, chosen.choices, NOT_CHOSEN) + self._whole(slower, chosen.choices, NOT_FASTER)
        return RankPlan(chosen.choices, missing + left, notes + chosen.notes)

    def of_budget(self, budget: AccuracyBudget, cost: ModelCost) -> RankPlan:
        """The fastest choices that keep the accuracy budget; where no time can be had, those of the fewest MACs."""
        survey, notes = self._judged(cost)
        frontier, untimed = self._frontier(survey, cost)
        search = BudgetSearch(budget, frontier, self._decomposing(budget), self.context)
        best = search.run()
        chosen = {} if best is None else best.choices
        missing = [Refusal("lowrank", search.shortfall, "raise --max-drop, or ask for a goal and let distill follow")]
        whole = self._whole(frontier.layers, chosen, NOT_CHOSEN if chosen else NOT_WITHIN)
        told = [] if best is None else [search.describe(best)]
        return RankPlan(chosen, [*([] if chosen else missing), *untimed, *whole], [*notes, *told])

    def _frontier(self, survey: Mapping[str, LayerChoices], cost: ModelCost) -> tuple[Frontier, list[Refusal]]:
        """By time where it can be measured or modelled, and layers that cannot be timed; else by MACs."""
        speed = SpeedPlanner(self.model, self.shapes, self.layers, self.context)
        timed = {name: choices for name, choices in survey.items() if speed.can_time(name)}
        frontier = speed.frontier(timed) if timed else None
        if frontier is None:
            return Frontier(survey, "macs", float(cost.macs)), []
        return frontier, self._untimed(survey, timed)

    def _decomposing(self, budget: AccuracyBudget) -> Callable[[Mapping[str, RankChoice]], Model]:
        """Makes copies of the model with some choices, on the data that the budget does not measure on."""
        data = self.data
        if data is not None and budget.fitted is not None:
            data = Pieces.of(self.model, budget.fitted, data.samples)

        def decomposed(choices: Mapping[str, RankChoice]) -> Model:
            copy = clone(self.model)
            layers = layers_in(copy, {name: self.layers[name] for name in choices})
            chains = {name: (layers[name], FORMS[choice.form], choice.ranks) for name, choice in choices.items()}
            decompose_layers(copy, chains, data, self.context, self.positions)
            return copy

        return decomposed

    def _of_speedup(self, goal: Goal, survey: Mapping[str, LayerChoices], notes: list[str]) -> RankPlan:
        speed = SpeedPlanner(self.model, self.shapes, self.layers, self.context)
        timed = {name: choices for name, choices in survey.items() if speed.can_time(name)}
        best, missing, note = speed.choose(timed, goal)
        untimed = self._untimed(survey, timed)
        return RankPlan(best, missing + untimed + self._whole(timed, best, NOT_FASTER), [*notes, note])

    def _untimed(self, survey: Mapping[str, LayerChoices], timed: Mapping[str, LayerChoices]) -> list[Refusal]:
        return [
            Refusal.at(self.layers[name].node, NOT_TIMED, "convert it behind lowrank")
            for name in survey
            if name not in timed
        ]

    def of_energy(self, share: float) -> RankPlan:
        """By layer the cheapest choice that keeps this share of the variance of its output, in the whole model."""
        survey = self._survey(LayerSensitivity(self.model, None))
        best = cheapest_within(survey, 1 - share)
        why = f"no cheaper rank keeps {share:.1%} of the variance of its output"
        return RankPlan(best, self._whole(survey, best, why))

    def of_share(self, share: float) -> RankPlan:
        """The same share of the full ranks in every layer."""
        return self._by_rule(
            lambda layer, form: tuple(
                rank_at(full, share, self.multiple) for full in form.full_ranks(shape_of_problem(layer.op))
            )
        )

    def of_noise(self) -> RankPlan:
        """The ranks that weights have above noise."""
        return self._by_rule(_ranks_above_noise)

    def _by_rule(self, ranks: Callable[[DecomposableLayer, Form], Ranks]) -> RankPlan:
        """The first form that fits, at ranks that a rule says."""
        plan = RankPlan()
        for name, layer in self.layers.items():
            problem = shape_of_problem(layer.op)
            form = layer.forms(self.forms)[0]
            wanted = ranks(layer, form)
            cost = cost_at(layer, problem, form, wanted)
            if layer.gains(cost, form):
                plan.chosen[name] = RankChoice(form.name, wanted, math.nan, cost, layer.whole)
            else:
                plan.refusals.append(Refusal.at(layer.node, NOT_CHEAPER, "ask for less"))
        return plan

    def _judged(self, cost: ModelCost) -> tuple[dict[str, LayerChoices], list[str]]:
        """The survey with measured damage, and a note where that is not measured."""
        sensitivity = LayerSensitivity.of(self.model, cost.macs, len(self.layers), self.context)
        notes = [] if sensitivity.missing is None else [NOT_MEASURED.format(sensitivity.missing)]
        return self._survey(sensitivity), notes

    def _survey(self, sensitivity: LayerSensitivity) -> dict[str, LayerChoices]:
        """What each layer may become, and what an error of it does."""
        judged = problems(self.model, self.layers.values(), self.data, self.context, self.positions)
        return {
            layer.name: self._choices(layer, problem, sensitivity)
            for layer, problem in self.context.progress.track(judged, "judging ranks", len(self.layers))
        }

    def _choices(
        self, layer: DecomposableLayer, problem: LayerProblem | None, sensitivity: LayerSensitivity
    ) -> LayerChoices:
        if problem is None:
            return LayerChoices(layer.whole, (), why=NOT_FINITE)
        problem = layer.weighted(problem)
        options = choices(layer, problem, layer.forms(self.forms), self.multiple)
        return LayerChoices(layer.whole, options, sensitivity.curve(layer, problem, options))

    def _whole(self, survey: Mapping[str, LayerChoices], best: Mapping[str, RankChoice], why: str) -> list[Refusal]:
        """Why layers stay whole."""
        return [
            Refusal.at(self.layers[name].node, why if options.choices else options.why)
            for name, options in survey.items()
            if name not in best
        ]


def _ranks_above_noise(layer: DecomposableLayer, form: Form) -> Ranks:
    table = constant(layer.table)
    if table is not None:
        return (bayesian_rank(table.astype(float)),)
    problem = problem_of(layer.op)
    return tuple(
        min(full, max(bayesian_rank(matrix) for matrix in unfolded))
        for full, unfolded in zip(form.full_ranks(problem), form.unfoldings(problem), strict=True)
    )
