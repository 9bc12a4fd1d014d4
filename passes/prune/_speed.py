"""Kept counts for a goal. A speed-up is measured end to end on this machine, or modelled for another target.

The counts chosen are recorded among the decisions: a replay follows them and measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from graphpress.allocation import Goal, LatencyBench, Trial, match_ratio
from graphpress.allocation.speedup import is_near_enough, latency_ratio, nearest
from graphpress.coupling.cost import GroupCosts, Price
from graphpress.errors import UsageError
from graphpress.ir import Model, Refusal
from graphpress.manager.contract import Context
from graphpress.passes._probe import probe_feed
from graphpress.passes.prune._plan import ASK_FOR_LESS, NOTHING_REMOVED, CountPlan, KeptCounts
from graphpress.passes.prune._prices import measured_price, modelled_price
from graphpress.runtime import Session, undisturbed_latency


@dataclass(frozen=True)
class AllocationDecision:
    """What is recorded of a choice.

    Args:
        counts: units kept of each group.
        kept: the ratio of latency that was reached.
        notes: sentences for the report.
        missing: why the goal was not reached; None where it was.
    """

    counts: Mapping[str, int]
    kept: float
    notes: list[str]
    missing: str | None = None


Realize = Callable[[Mapping[str, int]], Model]
"""A copy of the model in which so many units of each group are left; the model itself stays."""


def allocate(
    plan: CountPlan, model: Model, costs: GroupCosts, context: Context, realize: Realize, *, key: str | None = None
) -> KeptCounts:
    """Kept counts that meet the plan's goal; a speed-up is measured on this machine, or modelled for another.

    Args:
        plan: goal, strategy, scores, limits.
        model: as it is before the removal, not changed.
        costs: of the model.
        context: target, threads, data, decisions and cache of the run.
        realize: makes the pruned copies that are measured.
        key: under which the choice is recorded; ``{step}.prune.counts`` when not given.

    Raises:
        UsageError: a speed-up for a target that states no rates to model it with.
    """
    if plan.goal.kind != "speedup":
        return plan.counts(costs)
    key = key or f"{context.step}.prune.counts"
    recorded = _recorded(context, key, costs)
    if recorded is not None:
        return recorded
    chosen = (
        _measured(plan, model, costs, context, realize)
        if context.target.this_machine
        else _modelled(plan, costs, context)
    )
    missing = None if chosen.shortfall is None else chosen.shortfall.why
    context.decisions[key] = asdict(AllocationDecision(chosen.counts, chosen.kept, list(chosen.notes), missing))
    return chosen


def _recorded(context: Context, key: str, costs: GroupCosts) -> KeptCounts | None:
    """The choice of an earlier run, where it is one for these groups."""
    decision: AllocationDecision | None = context.recorded(key, AllocationDecision)
    if decision is None or decision.counts.keys() != costs.sizes.keys():
        return None
    if any(not 1 <= count <= costs.sizes[name] for name, count in decision.counts.items()):
        return None
    shortfall = None if decision.missing is None else Refusal("prune", decision.missing, ASK_FOR_LESS)
    return KeptCounts(dict(decision.counts), decision.kept, shortfall, (*decision.notes, "as recorded"))


def _modelled(plan: CountPlan, costs: GroupCosts, context: Context) -> KeptCounts:
    price = modelled_price(context.target)
    if price is None:
        raise UsageError(
            f"no speed-up can be modelled for {context.target.name}: it states no peak rate or no bandwidth",
            where="prune",
            fix="ask for macs_kept instead, or state peak_gmacs and bandwidth_gbs in the target's file",
        )
    chosen = plan.counts(costs.priced(price))
    note = f"{plan.goal.describe(chosen.kept)} as modelled for {context.target.name}, not measured"
    return replace(chosen, notes=(note,))


# -- measured -------------------------------------------------------------------------------------------------


def _measured(plan: CountPlan, model: Model, costs: GroupCosts, context: Context, realize: Realize) -> KeptCounts:
    feed = probe_feed(model, context)
    session = Session(model, threads=context.threads)
    priced = costs.priced(_price(plan, costs, session, feed, context))

    def counts_for(budget: float) -> tuple[dict[str, int], bool]:
        chosen = plan.at(budget).counts(priced)
        return chosen.counts, chosen.shortfall is None

    def measure(counts: dict[str, int]) -> float:
        if counts == costs.sizes:  # the model as it is: what a measurement would differ by is noise
            return 1.0
        return latency_ratio(session, realize(counts), feed, context.threads)

    trials = match_ratio(plan.goal.budget, counts_for, measure, context.progress)
    return _conclusion(plan.goal, trials, costs.sizes)


def _price(
    plan: CountPlan, costs: GroupCosts, session: Session, feed: Mapping[str, np.ndarray], context: Context
) -> Price:
    whole = undisturbed_latency(lambda: session.run(feed)) / 1e3
    bench = LatencyBench(context.threads, context.cache)
    return measured_price(costs, plan.limits, whole, bench, context.progress)


def _conclusion(goal: Goal, trials: list[Trial[int]], sizes: Mapping[str, int]) -> KeptCounts:
    """The trial nearest to the goal, and whether that is near enough."""
    best = nearest(trials, goal.budget)
    removed = best.choices != sizes
    rounds = f"{len(trials)} round{'s' if len(trials) > 1 else ''}"
    notes = (f"{goal.describe(best.ratio)} measured after {rounds}",) if removed else ()
    shortfall = None
    if not is_near_enough(best.ratio, goal.budget):
        reached = f"the best that was measured is {goal.describe(best.ratio)}" if removed else NOTHING_REMOVED
        shortfall = Refusal("prune", f"{goal.describe(goal.budget)} was not reached: {reached}", ASK_FOR_LESS)
    return KeptCounts(best.choices, best.ratio, shortfall, notes)
