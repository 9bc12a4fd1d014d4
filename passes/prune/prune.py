"""Structured pruning: whole channels, heads and hidden positions go, with every slice that depends on them.

    group the units that must live or die together          graphpress.coupling
    score each unit                                         criteria/
    choose how many of each group stay, for the goal        graphpress.allocation
    keep those of highest score, remove the rest            graphpress.coupling.remove

What is left is a smaller dense model that any runtime takes. Public inputs and outputs keep their shapes. With several
steps, each removes part of the way (the same fraction of what is left) and scores anew what least squares has repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from graphpress.allocation import Goal, Kind
from graphpress.coupling import Blocks, Coupling, Group, couple, remove, shuffles_to_gathers, unshare
from graphpress.coupling.cost import Totals
from graphpress.coupling.kept import composed
from graphpress.errors import UsageError
from graphpress.ir import Model, Node, Refusal, label
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes._expressions import regular_expression
from graphpress.passes._shared_goal import stated_goal
from graphpress.passes.prune._choice import AUTO, CriterionChoice
from graphpress.passes.prune._drafts import Plan, PlanDrafts, PlanOptions
from graphpress.passes.prune._limits import Limits
from graphpress.passes.prune._plan import NOTHING_REMOVED, KeptCounts, Strategy
from graphpress.passes.prune._planner import Planner
from graphpress.passes.prune._shares import GoalShares
from graphpress.passes.prune._steps import PruneHistory, PruneStep
from graphpress.passes.prune.criteria import Combine, Normalize, Role
from graphpress.passes.recovery.reconstruct import Reconstruct

_GOALS: tuple[Kind, ...] = ("ratio", "macs_kept", "params_kept", "speedup")
_DEFAULT = Goal("ratio", 0.5, "prune")


@dataclass(frozen=True)
class Prune(Pass):
    """Remove whole channels, heads and hidden positions.

    Args:
        ratio: this fraction of the units of every prunable group goes; 0.5 when no goal is given. With data, what costs
            as much and does less damage is taken instead.
        macs_kept: this fraction of the multiply-accumulates stays.
        params_kept: this fraction of the parameters stays.
        speedup: the model runs this many times as fast, as measured here or, for another target, modelled.
        criterion: how much a unit matters: l1, l2, random, batch_norm, fpgm, activation, taylor, fisher, wanda, obs;
            auto takes the best that data and framework allow: taylor, wanda, l2.
        allocation: how many units each group keeps: uniform, global (one ranking of all units), sensitivity (least
            measured damage for what it saves), latency (least importance for what it saves, in time where the goal
            is a speedup); auto takes uniform for a ratio, else latency, or with data what does the least damage in a
            trial.
        combine: how the places of a group make one score: sum, mean, max, first; None for what is usual with
            the criterion, as for the next two.
        roles: which constants are scored: those that write the units, that read them, elementwise ones.
        normalize: how scores of different groups are made comparable: none, place, mean, max, l2, size, lamp.
        layers: only groups that are written by a layer whose name matches this regular expression.
        exclude: layers whose name matches stay as they are, with all that is tied to them.
        blocks: where channels come in blocks (grouped convolution, heads): whole blocks go, positions within every
            block, or (auto) whatever removes more; of near equals, the finer.
        keep_statistics: leave axes whole over which a LayerNormalization or the like takes statistics. When false
            they shrink, and the statistics are those of what is left.
        floor: at least this fraction of every group stays.
        multiple: kept channels come in multiples of this; None leaves it to the target for a speedup, else 1.
        steps: in how many steps, each of which scores what is left anew.
        recover: let `reconstruct` follow, which fits what is left by least squares, unless the recipe names a recovery;
            and let it repair the model between steps.
    """

    name: ClassVar[str] = "prune"
    lossless: ClassVar[bool] = False
    requires: ClassVar[tuple[str, ...]] = ("cleanup",)

    ratio: float | None = None
    macs_kept: float | None = None
    params_kept: float | None = None
    speedup: float | None = None
    criterion: str = AUTO
    allocation: Literal["auto"] | Strategy = "auto"
    combine: Combine | None = None
    roles: tuple[Role, ...] | None = None
    normalize: Normalize | None = None
    layers: str = ""
    exclude: str = ""
    blocks: Blocks = "auto"
    keep_statistics: bool = True
    floor: float = 0.1
    multiple: int | None = None
    steps: int = 1
    recover: bool = True

    def __post_init__(self) -> None:
        given = [kind for kind in _GOALS if getattr(self, kind) is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} are two goals", where=self.name, fix="give one of them")
        if self.steps < 1:
            raise UsageError(f"steps={self.steps} cannot be", where=self.name, fix="give 1 or more")
        for check in (self._goal, self._criterion, self._chosen, self._limits):
            check()

    @property
    def followed_by(self) -> tuple[str, ...]:
        """Least squares: what is left answers next to nothing before."""
        return ("reconstruct",) if self.recover else ()

    def check(self, context: Context) -> None:
        """The criterion may need data, or gradients."""
        self._criterion().check(context)

    def run(self, model: Model, context: Context) -> Outcome:
        """Prune to the goal, or where another pass shares it, by as much of it as does the least damage."""
        if context.partner is None:
            return self._prune(model, context, self._goal())
        shares = GoalShares(model, self._goal(), self._prune_and_repair, context.partner, context)
        chosen = shares.best(f"{context.step}.{self.name}.share")
        if chosen.left == 1:
            return Outcome(0, notes=[chosen.note])
        outcome = self._prune_and_repair(model, context, self._goal().towards(chosen.left))
        outcome.notes.insert(0, chosen.note)
        own = {refusal for refusal in outcome.refusals if refusal.where == self.name}  # its partner goes on
        outcome.refusals = [refusal for refusal in outcome.refusals if refusal not in own]
        return outcome

    def _prune_and_repair(self, model: Model, context: Context, goal: Goal) -> Outcome:
        """For a pass behind it, which then judges a model that answers."""
        outcome = self._prune(model, context, goal)
        self._repair(model, context, outcome, "before the next pass")
        return outcome

    def _prune(self, model: Model, context: Context, goal: Goal) -> Outcome:
        """Group, score, allocate, remove; as often as there are steps."""
        unshare(model)
        shuffles_to_gathers(model)
        outcome, left, history = Outcome(), 1.0, PruneHistory()
        shortfall: Refusal | None = None
        scored = False
        for number in range(1, self.steps + 1):
            if number > 1:
                self._repair(model, context, outcome, "between steps")
            stays = goal.budget ** (number / self.steps) / left
            key = f"{context.step}.{self.name}.{number}"
            step = PruneStep(number, goal.towards(stays), key, history)
            done = self._step(model, context, step, outcome)
            if done is None:
                break
            left, shortfall, scored = left * done.kept, done.shortfall, True
        if context.transaction is not None:
            context.transaction.left *= left
        if scored and shortfall is None and not outcome.changes and goal.budget < 1:
            why = f"{goal.describe(goal.budget)} was not reached: {NOTHING_REMOVED}"
            outcome.refusals.append(Refusal(self.name, why, "ask for more"))
        if shortfall is not None:
            outcome.refusals.append(shortfall if self.steps == 1 else self._in_all(goal, left, shortfall))
        outcome.refusals, outcome.notes = list(dict.fromkeys(outcome.refusals)), list(dict.fromkeys(outcome.notes))
        return outcome

    def _repair(self, model: Model, context: Context, outcome: Outcome, when: str) -> None:
        """So that the next step judges a model that answers."""
        if self.recover and context.calibration is not None and context.transaction is not None:
            outcome.notes += [f"{when}: {note}" for note in Reconstruct().run(model, context).notes]

    def _in_all(self, goal: Goal, left: float, last: Refusal) -> Refusal:
        """What the last of several steps fell short of, counted from the start."""
        why = f"{goal.describe(goal.budget)} was not reached in {self.steps} steps: it is {goal.describe(left)}"
        return replace(last, why=why)

    def _step(self, model: Model, context: Context, step: PruneStep, outcome: Outcome) -> KeptCounts | None:
        coupling = self._couple(model, context, outcome)
        step.history.first = step.history.first or coupling
        drafts = PlanDrafts(model, coupling, self._options(), step, lambda copy: self._coupled(copy, context))
        plan = Planner(drafts, context).best()
        outcome.refusals += plan.outcome.refusals
        outcome.notes += plan.outcome.notes
        if not plan.coupling.groups:
            outcome.refusals.append(Refusal(self.name, "no channels can be removed", "see `optimize inspect --groups`"))
            return None
        kept = remove(model, plan.coupling, plan.keep)
        step.history.kept.update(composed(step.history.kept, kept))
        if context.transaction is not None:
            context.transaction.keep(kept)
        _report(outcome, plan, f"step {step.number}: " if self.steps > 1 else "")
        return plan.allocation

    # -- what the fields mean ---------------------------------------------------------------------------------

    def _goal(self) -> Goal:
        return stated_goal(self, _GOALS) or _DEFAULT

    def _criterion(self) -> CriterionChoice:
        return CriterionChoice(self.criterion, self.combine, self.roles, self.normalize)

    def _options(self) -> PlanOptions:
        return PlanOptions(self._criterion(), self.allocation, self.floor, self.multiple)

    def _limits(self) -> Limits:
        return self._options().limits()

    def _chosen(self) -> tuple[re.Pattern[str], re.Pattern[str] | None]:
        """Which layers are pruned, and which are left alone."""
        where = f"{self.name}{{layers, exclude}}"
        return regular_expression(self.layers, where), regular_expression(self.exclude, where) if self.exclude else None

    # -- groups -----------------------------------------------------------------------------------------------

    def _coupled(self, model: Model, context: Context) -> Coupling:
        excluded = self._chosen()[1]

        def left_alone(node: Node) -> str | None:
            named = excluded is not None and excluded.search(label(node)) is not None
            return _EXCLUDED if named or context.excluded(node) else None

        return couple(model, keep_statistics=self.keep_statistics, blocks=self.blocks, left_alone=left_alone)

    def _couple(self, model: Model, context: Context, outcome: Outcome) -> Coupling:
        """The groups that this pass may touch; what else could shrink is refused with the reason."""
        coupling, chosen = self._coupled(model, context), self._chosen()[0]
        outcome.refusals += [
            Refusal(axis.where, f"its {axis.size} channels stay: {axis.why}", _REMEDIES.get(axis.why, _NO_REMEDY))
            for axis in coupling.pinned
            if not axis.why.startswith(_PUBLIC)
        ]
        if any(axis.why.startswith(_PUBLIC) for axis in coupling.pinned):
            outcome.notes.append("the model's outputs keep their shape, and with it the layers that write them")
        wanted = [group for group in coupling.groups if _written_by(group, chosen)]
        outcome.refusals += [
            Refusal(group.name, f"no layer of this group matches {self.layers!r}", "widen the expression `layers`")
            for group in coupling.groups
            if group not in wanted
        ]
        return replace(coupling, groups=tuple(wanted))


_PUBLIC = "the graph output"
_EXCLUDED = "excluded by name, or tied to what is"
_REMEDIES = {_EXCLUDED: "narrow `exclude` (--exclude)"}
_NO_REMEDY = "see `optimize inspect --groups` for what is tied to what"


def _written_by(group: Group, chosen: re.Pattern[str]) -> bool:
    return not chosen.pattern or any(chosen.search(label(node)) for node in group.writers)


def _summary(groups: int, before: Totals, after: Totals) -> str:
    return (
        f"{after.units} of {before.units} units of {groups} groups stay, "
        f"{after.parameters / max(before.parameters, 1):.1%} of the parameters, "
        f"{after.macs / max(before.macs, 1):.1%} of the multiply-accumulates"
    )


def _report(outcome: Outcome, plan: Plan, which: str) -> None:
    sizes, counts = {group.name: group.size for group in plan.coupling.groups}, plan.allocation.counts
    outcome.changes += sum(count < sizes[name] for name, count in counts.items())
    summary = which + _summary(len(sizes), plan.whole, plan.left)
    outcome.notes += [summary, *plan.allocation.notes, *plan.coupling.channels.notes]
