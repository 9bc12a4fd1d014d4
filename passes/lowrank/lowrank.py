"""Low-rank decomposition: a layer's weight as a product of thinner ones, each a layer of its own.

    y = Wᵀx + b   becomes   y = Bᵀ(Tᵀx) + b̂       Ŵ = T B of low rank, nearest to W in the norm of the layer's output

    which layers can be decomposed                   _candidates  and why the others cannot
    what may each become, at which error             _choices     the forms, each at a ladder of ranks
    what does an error in this layer do              _sensitivity damage of the model's outputs, measured twice a layer
    which form and ranks does each get               _plan        the exact knapsack, or a rule layer by layer
    decompose                                        _decompose   from the input to the output, each layer on what the
                                                                  layers before, already decomposed, feed it

Tables of embeddings are layers, too, where parameters count (_tables). Layers that no rank makes cheaper stay whole, as
do depthwise convolutions and what is a factor already.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

from graphpress.allocation import Goal, Kind
from graphpress.analysis.cost import ModelCost, model_cost
from graphpress.analysis.linear import linear_op_of
from graphpress.analysis.shapes import concrete_shapes
from graphpress.analysis.spectrum import RankSurvey
from graphpress.errors import UsageError, did_you_mean
from graphpress.ir import Dims, Model, Node, Refusal, graphs, label
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.observation import Pieces
from graphpress.passes._expressions import regular_expression
from graphpress.passes._shared_goal import is_reached, rest_of, stated_goal, with_one_goal
from graphpress.passes.lowrank._budget import AccuracyBudget
from graphpress.passes.lowrank._candidates import DecomposableLayer, candidates
from graphpress.passes.lowrank._choices import RankChoice
from graphpress.passes.lowrank._decompose import decompose_layers
from graphpress.passes.lowrank._forms import AUTOMATIC, FORMS
from graphpress.passes.lowrank._plan import RankPlan, RankPlanner
from graphpress.passes.lowrank._problem import shape_of_problem
from graphpress.passes.lowrank._survey import RankSurveyor
from graphpress.passes.lowrank._tables import ExposedTable, absorb_tables, expose_tables, tables
from graphpress.passes.lowrank._told import scarcity, summary, told_layers, wide_layers
from graphpress.passes.lowrank._weighting import weighted
from graphpress.passes.prune.prune import Prune

POSITIONS = 128
"""Rows that are looked at in each sample: a covariance wants more of them than a fit does."""

_GOALS: tuple[Kind, ...] = ("macs_kept", "params_kept", "speedup")
_RULES = ("rank", "energy", "vbmf")
_DEFAULT = Goal("macs_kept", 0.5, "lowrank")
_FEW = 3
"""Reasons that a sentence names."""


@dataclass(frozen=True)
class RankDecision:
    """What is recorded of a choice.

    Args:
        chosen: form and ranks by the name of the layer's result.
        missing: what of the goal was not reached.
    """

    chosen: Mapping[str, RankChoice]
    missing: list[str]


@dataclass(frozen=True)
class LowRank(Pass):
    """Replace layers by chains of thinner ones, of low rank.

    Args:
        method: the form of the chain: svd (two layers, the first slides), tucker (1×1, k×k, 1×1), spatial (k×1, 1×k),
            cp (1×1, k×1 and 1×k by channel, 1×1), tt (of products: three cores of folded channels), monarch (two
            block-diagonal layers with a permutation between). A layer that the form does not fit becomes svd. auto
            takes for each layer what does the least damage for what it saves, of the first four; with rank or vbmf,
            svd.
        macs_kept: this fraction of the model's multiply-accumulates stays. When no goal is given, ranks are the
            fastest within the accuracy budget, or where that cannot be measured it is 0.5.
        params_kept: this fraction of the model's parameters stays.
        speedup: the model runs this many times as fast, as measured here or, for another target, modelled.
        rank: this fraction of the full ranks stays, in every layer that it makes cheaper.
        energy: every layer by itself keeps at least this fraction of the variance of its output.
        vbmf: every layer keeps the ranks that its weight has above noise, whatever they are multiples of.
        norm: what errors are measured in: the data's, that is the layer's output, or the weights'. Without data, the
            weights'.
        weighting: whether errors of all outputs of a layer count alike (none), or as the model's answers depend on them
            (fisher), which takes data, PyTorch and a chain whose last layer is free (not tt or monarch).
        layers: only layers whose name matches this regular expression.
        multiple: ranks come in multiples of this; None leaves it to the target.
        samples: calibration samples that are looked at, at most.
        positions: positions of a convolution's result that are looked at in each sample.
        recover: let `reconstruct` follow, unless the recipe names a recovery.
    """

    name: ClassVar[str] = "lowrank"
    lossless: ClassVar[bool] = False
    requires: ClassVar[tuple[str, ...]] = ("cleanup",)

    method: Literal["auto", "svd", "tucker", "spatial", "cp", "tt", "monarch"] = "auto"
    macs_kept: float | None = None
    params_kept: float | None = None
    speedup: float | None = None
    rank: float | None = None
    energy: float | None = None
    vbmf: bool = False
    norm: Literal["data", "weights"] = "data"
    weighting: Literal["none", "fisher"] = "none"
    layers: str = ""
    multiple: int | None = None
    samples: int = 512
    positions: int = POSITIONS
    recover: bool = True

    def __post_init__(self) -> None:
        asked = [name for name in (*_GOALS, *_RULES) if getattr(self, name)]
        if len(asked) > 1:
            raise UsageError(f"{' and '.join(asked)} are two goals", where=self.name, fix="give one of them")
        for name in ("rank", "energy"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                of = {"rank": "the full rank", "energy": "the variance of a layer's output"}[name]
                raise UsageError(f"{name}={share:g} is no fraction of {of}", where=self.name, fix="above 0, at most 1")
        if min(self.samples, self.positions, 1 if self.multiple is None else self.multiple) < 1:
            raise UsageError(
                "samples, positions and multiple must be at least 1", where=self.name, fix="leave them out"
            )
        if self.weighting == "fisher" and self.method != "auto" and not FORMS[self.method].spans_outputs:
            raise UsageError(
                f"{self.method} has no factor of its own for outputs that fisher could weigh",
                where=f"{self.name}{{weighting}}",
                fix="leave weighting out, or take another method",
            )
        for check in (self._goal, self._pattern):
            check()

    @property
    def followed_by(self) -> tuple[str, ...]:
        """Least squares: the last factor answers next to nothing before."""
        return ("reconstruct",) if self.recover else ()

    def joined(self, before: Pass) -> tuple[Pass, Pass] | None:
        """Pruning right before it shares the goal, unless either is to follow a rule of its own."""
        if not isinstance(before, Prune) or before.ratio is not None or any(getattr(self, rule) for rule in _RULES):
            return None
        return with_one_goal(before, self, _GOALS, _DEFAULT)

    def run(self, model: Model, context: Context) -> Outcome:
        """Look at every layer, choose, decompose."""
        goal = self._goal()
        if goal is not None and is_reached(goal, context):
            return Outcome(0, notes=["the pass before, which shares the goal, reaches it alone"])
        shapes = concrete_shapes(model)
        self._check_layers(model)
        cost, data = model_cost(model, shapes), self._data(model, context)
        exposed, whole = self._tables(model, shapes)
        layers, refusals = candidates(model, shapes, lambda node: self._left_alone(node, context))
        layers = self._weighted(model, layers, context)
        multiple = self.multiple or context.target.channel_multiple
        forms = AUTOMATIC if self.method == "auto" else (self.method,)
        planner = RankPlanner(model, shapes, layers, forms, multiple, data, self.positions, context)
        plan = self._recorded(layers, context) or self._plan(planner, cost, context)
        chains = {name: (layers[name], FORMS[choice.form], choice.ranks) for name, choice in plan.chosen.items()}
        done = decompose_layers(model, chains, data, context, self.positions)
        absorb_tables(model, exposed)
        refusals += [*whole, *plan.refusals, *done.refusals]
        samples = 0 if data is None else data.samples
        if not done.errors:
            return Outcome(0, self._nothing_done(refusals))
        nodes = {name: layer.node for name, layer in layers.items()}
        told = told_layers(nodes, plan.chosen, done)
        count = sum(len(layers[name].members) for name in done.errors)
        notes = self._notes_on_weighting(layers.values())
        blind = len(done.errors.keys() - done.rows.keys() - done.wide.keys())
        notes = [summary(told, (cost, model_cost(model)), count, blind), *notes, *plan.notes]
        notes += [*wide_layers(nodes, done.wide), *scarcity(nodes, done.rows, samples)]
        return Outcome(len(told), refusals, notes, told)

    def survey(self, model: Model, context: Context, *, timed: bool = False) -> RankSurvey:
        """What layers keep at each rank, and what that would save; the model is not changed.

        Args:
            model: cleaned up.
            context: target, data and threads.
            timed: measure what ranks take, or model it for another target.
        """
        shapes = concrete_shapes(model)
        layers, whole = candidates(model, shapes, lambda node: self._left_alone(node, context))
        data = self._data(model, context)
        spectra, unseen = RankSurveyor(model, shapes, layers, data, self.positions, context).spectra(timed=timed)
        samples = 0 if data is None else data.samples
        return RankSurvey("weights" if data is None else "data", samples, spectra, [*whole, *unseen])

    # -- what the fields mean ---------------------------------------------------------------------------------

    def _goal(self) -> Goal | None:
        return stated_goal(self, _GOALS)

    def _pattern(self) -> re.Pattern[str]:
        return regular_expression(self.layers, f"{self.name}{{layers}}")

    def _check_layers(self, model: Model) -> None:
        """An expression that matches no layer at all is a slip."""
        nodes = [node for graph in graphs(model) for node in graph if linear_op_of(node) is not None]
        names = [label(node) for node in (*nodes, *tables(model))]
        if names and not any(self._pattern().search(name) for name in names):
            raise UsageError(
                f"no layer matches {self.layers!r}",
                where=f"{self.name}{{layers}}",
                fix=did_you_mean(self.layers, names),
            )

    def _left_alone(self, node: Node, context: Context) -> Refusal | None:
        if not self._pattern().search(label(node)):
            return Refusal.at(node, f"its name does not match {self.layers!r}", "widen the expression `layers`")
        return context.exclusion(node)

    def _data(self, model: Model, context: Context) -> Pieces | None:
        if context.calibration is None or self.norm == "weights":
            return None
        return Pieces.of(model, context.calibration, self.samples)

    def _weighted(
        self, model: Model, layers: dict[str, DecomposableLayer], context: Context
    ) -> dict[str, DecomposableLayer]:
        return layers if self.weighting == "none" else weighted(model, layers, self.samples, context)

    def _tables(self, model: Model, shapes: dict[str, Dims]) -> tuple[list[ExposedTable], list[Refusal]]:
        """Tables are layers where parameters are what is to be saved: reading them costs nothing else."""
        if any(getattr(self, name) for name in ("params_kept", *_RULES)):
            return expose_tables(model, shapes)
        return [], [
            Refusal.at(node, "tables are decomposed where parameters are to be saved, not time", "ask for params_kept")
            for node in tables(model)
        ]

    # -- choosing ---------------------------------------------------------------------------------------------

    def _plan(self, planner: RankPlanner, cost: ModelCost, context: Context) -> RankPlan:
        if not planner.layers:
            return RankPlan()
        if self.rank is not None:
            return planner.of_share(self.rank)
        if self.vbmf:
            return planner.of_noise()
        if self.energy is not None:
            plan = planner.of_energy(self.energy)
        else:
            plan = self._plan_within(planner, cost, context)
        missing = [refusal.why for refusal in plan.refusals if refusal.where == self.name]
        context.decisions[self._key(context)] = asdict(RankDecision(plan.chosen, missing))
        return plan

    def _plan_within(self, planner: RankPlanner, cost: ModelCost, context: Context) -> RankPlan:
        """Within the goal; where none is given, within the accuracy budget as far as that can be searched."""
        goal = self._goal()
        if goal is not None:
            return planner.of_goal(rest_of(goal, context), cost)
        budget = AccuracyBudget.of(context)
        if isinstance(budget, AccuracyBudget):
            return planner.of_budget(budget, cost)
        plan = planner.of_goal(_DEFAULT, cost)
        plan.notes.append(f"{_DEFAULT.describe(_DEFAULT.budget)} was the goal: none was given, and {budget}")
        return plan

    def _key(self, context: Context) -> str:
        return f"{context.step}.{self.name}.ranks"

    def _recorded(self, layers: Mapping[str, DecomposableLayer], context: Context) -> RankPlan | None:
        """The choice of an earlier run, where it is one for these layers."""
        decision: RankDecision | None = context.recorded(self._key(context), RankDecision)
        if decision is None or not decision.chosen.keys() <= layers.keys():
            return None
        if not all(_is_possible(layers[name], choice) for name, choice in decision.chosen.items()):
            return None
        missing = [Refusal(self.name, why, "ask for less, or exclude fewer layers") for why in decision.missing]
        whole = [
            Refusal.at(layer.node, "it stays whole as recorded")
            for name, layer in layers.items()
            if name not in decision.chosen
        ]
        return RankPlan(dict(decision.chosen), missing + whole, ["ranks as recorded"])

    # -- telling ----------------------------------------------------------------------------------------------

    def _notes_on_weighting(self, layers: Iterable[DecomposableLayer]) -> list[str]:
        """Layers that have no gradient are not weighed, though that was asked for."""
        alike = [label(layer.node) for layer in layers if layer.output_root is None]
        if self.weighting == "none" or not alike:
            return []
        return [f"outputs of {', '.join(alike)} count alike: no gradient reaches the weight"]

    def _nothing_done(self, refusals: Sequence[Refusal]) -> list[Refusal]:
        """The refusals, that of the pass itself first: what is missing of a goal, or what keeps most layers whole."""
        layers = [refusal for refusal in refusals if refusal.where != self.name]
        if len(layers) < len(refusals):
            return sorted(refusals, key=lambda refusal: refusal.where != self.name)
        reasons = Counter(refusal.why for refusal in layers).most_common(_FEW)
        why = "; ".join(f"{why} ({count})" for why, count in reasons) or "none multiplies by a constant weight"
        return [Refusal(self.name, f"no layer was decomposed: {why}"), *layers]


def _is_possible(layer: DecomposableLayer, choice: RankChoice) -> bool:
    """Whether a recorded choice is one for this layer."""
    problem = shape_of_problem(layer.op)
    form = FORMS.get(choice.form)
    if form is None or form not in layer.forms([form.name]):
        return False
    full = form.full_ranks(problem)
    return len(full) == len(choice.ranks) and all(
        1 <= rank <= most for rank, most in zip(choice.ranks, full, strict=True)
    )
