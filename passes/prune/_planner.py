"""The choice among plans, by trial.

A criterion and an allocation make a plan (``_drafts``). Where both, or the allocation alone, are left open and there is
data, a few plans are tried on copies (``_trial``), and the one that does the least damage is carried out:

    the criterion's own scores, least for what they save    ``latency``
    damage measured group by group                          ``sensitivity``, with scores by weights
    the same fraction everywhere                            ``uniform``: first for a ratio, which is defined by it, else
                                                            where the others ruin the model

Rivals of a ratio may cost as many multiply-accumulates as the same fraction everywhere leaves. No plan is tried where
that would take too many of them; and with a time limit, trials end after a part of the time that is left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from graphpress.allocation import Goal
from graphpress.coupling import remove
from graphpress.deadline import PASSES, OutOfTimeError, TimedProgress
from graphpress.errors import GraphpressError
from graphpress.ir import clone
from graphpress.manager.contract import Context
from graphpress.passes.prune._choice import AUTO, CriterionChoice
from graphpress.passes.prune._drafts import FRACTIONS, Plan, PlanDrafts
from graphpress.passes.prune._plan import Strategy
from graphpress.passes.prune._trial import MAX_MACS, RUNS, PlanTrial

TIME_SHARE = 0.25
"""Of the time that is left to passes under a time limit: what trials may take."""
NEXT_TO_NOTHING = 1e-4
"""Damage below this leaves nothing for a rival to win."""

_Candidate = tuple[CriterionChoice, Strategy]


@dataclass(frozen=True)
class PlanDecision:
    """What is recorded of a choice among plans.

    Args:
        allocation: of the one that was carried out.
        note: the sentence for the report.
    """

    allocation: str
    note: str


class Planner:
    """Chooses the plan for one step of pruning.

    Args:
        drafts: makes plans.
        context: data, target and decisions of the run.
    """

    def __init__(self, drafts: PlanDrafts, context: Context) -> None:
        self._drafts, self._context = drafts, context
        self._goal, self._key = drafts.step.goal, drafts.step.key
        self._tried: list[tuple[float, Plan]] = []

    def best(self) -> Plan:
        """The plan to carry out; without any group where the criterion can judge none."""
        first, *rivals = self._candidates()
        recorded = self._context.recorded(f"{self._key}.plan", PlanDecision)
        plan = self._drafts.draft(*first, self._goal, self._context, self._key)
        if not rivals or not plan.coupling.groups or not 0 < RUNS * plan.whole.macs <= MAX_MACS:
            return plan
        for candidate in (first, *rivals) if recorded is not None else ():
            if recorded is not None and candidate[1] == recorded.allocation:
                return (plan if candidate == first else self._rival(candidate, plan, self._context)).noted(
                    recorded.note
                )
        return self._least_harmful(plan, rivals)

    # -- candidates -------------------------------------------------------------------------------------------

    def _candidates(self) -> Iterator[_Candidate]:
        """The plan that is carried out where none can be tried, and its rivals."""
        own, allocation = self._drafts.options.criterion, self._drafts.options.allocation
        if allocation != "auto":
            yield own, allocation
            return
        usual: list[_Candidate] = [(own, "latency")]
        if self._context.calibration is not None:
            usual.append((replace(own, name="l2") if own.name == AUTO else own, "sensitivity"))
        uniform: _Candidate = (own, "uniform")
        if self._goal.kind == "ratio":
            yield uniform
            yield from usual if self._context.calibration is not None else ()
            return
        yield from usual
        if self._context.calibration is not None:
            yield uniform

    def _rival(self, candidate: _Candidate, first: Plan, context: Context) -> Plan:
        """A plan that costs what the first does."""
        key = f"{self._key}.{candidate[1]}"
        if self._goal.kind != "ratio":
            return self._drafts.draft(*candidate, self._goal, context, key)
        goal = Goal("macs_kept", first.left.macs / first.whole.macs, self._goal.where)
        plan = self._drafts.draft(*candidate, goal, context, key)
        return replace(plan, allocation=replace(plan.allocation, kept=first.allocation.kept))

    # -- trials -----------------------------------------------------------------------------------------------

    def _least_harmful(self, first: Plan, rivals: list[_Candidate]) -> Plan:
        """The plan of least damage among those that could be tried."""
        context, trial, why = self._timed(), None, ""
        try:
            trial = PlanTrial.of(self._drafts.model, context)
            self._try(first, trial)
            for rival in rivals:
                if self._is_worth_trying(rival[1], trial, first):
                    self._try(self._rival(rival, first, context), trial)
        except GraphpressError as error:
            why = error.what
        except OutOfTimeError:
            why = "the time limit leaves no more time for it"
        if trial is None or not self._tried:
            return first.noted(f"the damage of the plan could not be measured beforehand: {why}")
        harm, best = min(self._tried, key=lambda pair: pair[0])
        note = self._note(best, absurd=trial.is_absurd(harm)) + (f"; no more were tried: {why}" if why else "")
        self._context.decisions[f"{self._key}.plan"] = asdict(PlanDecision(best.strategy, note))
        return best.noted(note)

    def _timed(self) -> Context:
        """The context of trials, whose loops end in time."""
        deadline = self._context.deadline
        end = float("inf")
        if deadline.seconds is not None:
            end = time.monotonic() + TIME_SHARE * deadline.left(PASSES)
        return replace(self._context, progress=TimedProgress(self._context.progress, lambda: end))

    def _try(self, plan: Plan, trial: PlanTrial) -> None:
        copy = clone(self._drafts.model)
        kept = remove(copy, self._drafts.couple(copy), plan.keep)
        self._tried.append((trial.damage(copy, kept), plan))

    def _is_worth_trying(self, strategy: Strategy, trial: PlanTrial, first: Plan) -> bool:
        """Rivals are for what leaves something to win. A speed-up is measured for each plan, so that they are made only
        where the first is absurd; the same fraction everywhere is a last resort, too.
        """
        least = min(harm for harm, _ in self._tried)
        if trial.is_absurd(least):
            return True
        if strategy == "uniform" or self._goal.kind == "speedup" or least <= NEXT_TO_NOTHING:
            return False
        runs = len(FRACTIONS) * len(first.coupling.groups) if strategy == "sensitivity" else 1
        return runs * RUNS * first.whole.macs <= MAX_MACS

    def _note(self, best: Plan, *, absurd: bool) -> str:
        damages = ", ".join(f"{harm:.3g} by {plan}" for harm, plan in self._tried)
        note = f"damage after a brief repair by least squares, on calibration data: {damages}; {best} was carried out"
        return note + (", though it leaves little of what the model knew: ask for less" if absurd else "")
