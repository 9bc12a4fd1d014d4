"""How much of a goal pruning reaches where the pass behind it shares the goal: tried on copies.

    minimize over x ≤ 1   D(model pruned to x, brought from there to the goal by the other pass, repaired)

D is the damage by trial (``_trial``), x what pruning leaves of what the goal counts. The ends, either pass alone, are
among what is tried, so that the result is no worse than the better of the two by that measure. What removes the first
units of a model harms it least, and what the other pass saves of them later grows dear likewise: the best x lies near 1
more often than not. Trials are spread by x = budget^(u²), u from 0 (the other pass alone) to 1 (pruning alone): u grows
until the damage does, and a last trial halves the distance between the best u and the better of its neighbors.

Within a trial either pass allocates what is its own as it does alone: pruning by descent over group counts, whose
costs multiply where layers meet, the other exactly over what pruning has left of each layer. Both see all of the
data, and the repair behind them half of it; the other half judges.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from graphpress.allocation import Goal
from graphpress.analysis.cost import model_cost
from graphpress.deadline import PASSES, OutOfTimeError, TimedProgress
from graphpress.errors import GraphpressError
from graphpress.ir import Model, clone
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.manager.transaction import Transaction
from graphpress.passes.prune._planner import NEXT_TO_NOTHING
from graphpress.passes.prune._trial import MAX_MACS, RUNS, PlanTrial

BETWEEN = (0.25, 0.5)
"""Shares u that are tried between the ends, as long as each does less damage than the one before."""
TIME_SHARE = 0.5
"""Of the time that is left to passes under a time limit: what trials may take."""
Prune = Callable[[Model, Context, Goal], Outcome]
"""Prunes a model in place towards a goal, and repairs it for the pass behind."""


@dataclass(frozen=True)
class ShareDecision:
    """What is recorded of a choice.

    Args:
        left: the fraction of what the goal counts that pruning leaves; 1 for no pruning.
        note: the sentence for the report.
    """

    left: float
    note: str


@dataclass(frozen=True)
class _Share:
    """One that was tried; smaller is better. Of those that miss the goal the one that prunes most: it is nearest to it.

    Args:
        missed: whether the goal was.
        damage: to the model, after a brief repair.
        at: u, from 0 for the other pass alone to 1 for pruning alone.
    """

    missed: bool
    damage: float
    at: float

    @property
    def order(self) -> tuple[bool, float]:
        return self.missed, -self.at if self.missed else self.damage


@dataclass
class GoalShares:
    """Chooses how much of a shared goal is pruning's.

    Args:
        model: not changed.
        goal: of both passes.
        prune: the first pass, with a goal of its own.
        partner: the second; what it is to reach counts from the start of the transaction.
        context: of the first pass.
    """

    model: Model
    goal: Goal
    prune: Prune
    partner: Pass
    context: Context
    _tried: list[_Share] = field(default_factory=list)

    def best(self, key: str) -> ShareDecision:
        """The share of least damage, recorded under a key, or the one that was recorded there."""
        recorded: ShareDecision | None = self.context.recorded(key, ShareDecision)
        if recorded is not None and 0 < recorded.left <= 1:
            return recorded
        trial, why = None, ""
        try:
            trial = self._trial()
            for at in self._places():
                self._tried.append(self._try(at, trial))
        except GraphpressError as error:
            why = error.what
        except OutOfTimeError:
            why = "the time limit leaves no more time for it"
        decision = self._decision(trial, why)
        self.context.decisions[key] = asdict(decision)
        return decision

    def left(self, at: float) -> float:
        """What pruning leaves at a share."""
        return float(self.goal.budget ** (at * at))

    # -- trials -----------------------------------------------------------------------------------------------

    def _trial(self) -> PlanTrial | None:
        """What judges copies; None where there is no data, or that would take too long."""
        if self.context.calibration is None or not 0 < RUNS * model_cost(self.model).macs <= MAX_MACS:
            return None
        return PlanTrial.of(self.model, self._timed)

    @cached_property
    def _timed(self) -> Context:
        """The context of trials, whose loops end in time."""
        deadline, end = self.context.deadline, math.inf
        if deadline.seconds is not None:
            end = time.monotonic() + TIME_SHARE * deadline.left(PASSES)
        return replace(self.context, progress=TimedProgress(self.context.progress, lambda: end))

    def _places(self) -> Iterator[float]:
        """Shares to try, each chosen by what those before have shown."""
        yield 0.0
        for at in BETWEEN:
            if self._tried[-1] is self._best and not self._is_settled:
                yield at
        if not self._is_settled:
            yield 1.0
        if not self._is_settled:
            yield self._between()

    @property
    def _best(self) -> _Share:
        return min(self._tried, key=lambda share: share.order)

    @property
    def _is_settled(self) -> bool:
        """Whether nothing is left to win."""
        return not self._best.missed and self._best.damage <= NEXT_TO_NOTHING

    def _between(self) -> float:
        """Half way from the best share to the better of its neighbors."""
        ranked = sorted(self._tried, key=lambda share: share.at)
        place = ranked.index(self._best)
        neighbors = ranked[max(place - 1, 0) : place] + ranked[place + 1 : place + 2]
        return (ranked[place].at + min(neighbors, key=lambda share: share.order).at) / 2

    def _try(self, at: float, trial: PlanTrial | None) -> _Share:
        """Do on a copy what either pass would; without a trial nothing is known but whether the goal is reached."""
        copy, transaction = clone(self.model), Transaction(self._start)
        context = replace(self._timed, transaction=transaction, partner=None, decisions={})
        if at > 0:
            self.prune(copy, context, self.goal.towards(self.left(at)))
        rest = self.partner.run(copy, context)
        missed = any(refusal.where == self.partner.name for refusal in rest.refusals)
        return _Share(missed, 0.0 if trial is None else trial.damage_of(copy, transaction), at)

    @property
    def _start(self) -> Model:
        return self.model if self.context.transaction is None else self.context.transaction.start

    # -- telling ----------------------------------------------------------------------------------------------

    def _decision(self, trial: PlanTrial | None, why: str) -> ShareDecision:
        if not self._tried:
            return ShareDecision(
                1.0, f"{self._name(0.0)} works towards the goal: what pruning would do was not tried: {why}"
            )
        best = self._best
        done = f"{self._name(best.at)} was carried out" + (f"; no more were tried: {why}" if why else "")
        if trial is None:
            return ShareDecision(
                self.left(best.at), f"{done}, as the first that reaches the goal: damage cannot be measured"
            )
        damages = ", ".join(
            f"{share.damage:.3g} by {self._name(share.at)}{' (short of the goal)' if share.missed else ''}"
            for share in sorted(self._tried, key=lambda share: share.at)
        )
        absurd = (
            ", though it leaves little of what the model knew: ask for less" if trial.is_absurd(best.damage) else ""
        )
        note = f"damage after a brief repair by least squares, on calibration data: {damages}; {done}{absurd}"
        return ShareDecision(self.left(best.at), note)

    def _name(self, at: float) -> str:
        """A share in words."""
        if at in (0.0, 1.0):
            return f"{self.goal.where if at else self.partner.name} alone"
        return f"{self.goal.where} to {self.goal.describe(self.left(at))} and {self.partner.name} for the rest"
