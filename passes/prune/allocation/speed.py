"""A speed-up that holds end to end: allocate, prune a copy, measure it against the model as it was, correct, repeat.

Prices of single nodes leave out what only the whole shows (caches, layouts, threads). So the budget given to the
strategy is corrected until the measured ratio is the one asked for, in logarithms: first in proportion, then along the
secant, and with budgets on either side by interpolation between them (regula falsi, kept off the ends so that the
bracket shrinks). Both models are timed in turn in one process. For a target that is not this machine the modelled
price decides alone.

The counts chosen are recorded among the decisions: a replay follows them and measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphpress.analysis.shapes import concrete_shapes
from graphpress.coupling.cost import GroupCosts, Price
from graphpress.data.synthetic import random_array
from graphpress.errors import UsageError
from graphpress.ir import DataType, Model, Refusal, dims_of
from graphpress.manager.contract import Context
from graphpress.passes.prune.allocation.goal import Allocation, Goal
from graphpress.passes.prune.allocation.latency import Bench, measured_price, modelled_price
from graphpress.passes.prune.allocation.plan import Plan
from graphpress.runtime import Session, compare_latency, median_latency

Realise = Callable[[Mapping[str, int]], Model]
"""A copy of the model in which so many units of each group are left; the model itself stays."""

ROUNDS = 6
"""Pruned copies that are measured at most."""
ATTEMPTS = 16
"""Budgets that are tried at most; several may lead to the same counts."""
TOLERANCE = 0.03
"""Relative distance of the measured ratio from the one wanted at which the search stops."""
ALLOWED = 0.10
"""Relative distance that counts as met."""
SECONDS = 2.0
"""Time that one comparison takes."""
LONG_SECONDS = 6.0
"""The same where the interval of the ratio was wider than what counts as met."""

_FIX = "ask for less, lower `floor`, or exclude fewer layers"
_FLATTEST = 0.5
"""The least power of the budget with which the ratio is taken to grow."""
_MARGIN = 0.15
"""How far inside its bracket a new budget lies, as a fraction of the bracket."""


def allocate(
    plan: Plan, model: Model, costs: GroupCosts, context: Context, realise: Realise, *, key: str | None = None
) -> Allocation:
    """Kept counts that meet the plan's goal; a speed-up is measured on this machine, or modelled for another.

    Args:
        plan: goal, strategy, scores, limits.
        model: as it is before the removal, not changed.
        costs: of the model.
        context: target, threads, data, decisions and cache of the run.
        realise: makes the pruned copies that are measured.
        key: under which the choice is recorded; ``{step}.prune.counts`` when not given.

    Raises:
        UsageError: a speed-up for a target that states no rates to model it with.
    """
    if plan.goal.kind != "speedup":
        return plan.allocation(costs)
    key = key or f"{context.step}.prune.counts"
    recorded = _recorded(context, key, costs)
    if recorded is not None:
        return recorded
    found = (
        _measured(plan, model, costs, context, realise)
        if context.target.this_machine
        else _modelled(plan, costs, context)
    )
    context.decisions[key] = {
        "counts": found.counts,
        "kept": found.kept,
        "notes": list(found.notes),
        "missing": None if found.shortfall is None else found.shortfall.why,
    }
    return found


def _recorded(context: Context, key: str, costs: GroupCosts) -> Allocation | None:
    """The choice of an earlier run, where it is one for these groups."""
    decision: dict[str, Any] | None = context.decisions.get(key)
    if decision is None or decision["counts"].keys() != costs.sizes.keys():
        return None
    counts = {name: int(count) for name, count in decision["counts"].items()}
    if any(not 1 <= count <= costs.sizes[name] for name, count in counts.items()):
        return None
    shortfall = None if decision["missing"] is None else Refusal("prune", decision["missing"], _FIX)
    return Allocation(counts, float(decision["kept"]), shortfall, (*decision["notes"], "as recorded"))


def _modelled(plan: Plan, costs: GroupCosts, context: Context) -> Allocation:
    price = modelled_price(context.target)
    if price is None:
        raise UsageError(
            f"no speed-up can be modelled for {context.target.name}: it states no peak rate or no bandwidth",
            where="prune",
            fix="ask for macs_kept instead, or state peak_gmacs and bandwidth_gbs in the target's file",
        )
    found = plan.allocation(costs.priced(price))
    return replace(found, notes=(f"{plan.goal.words(found.kept)} as modelled for {context.target.name}, not measured",))


# -- measured -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trial:
    """An allocation, and the fraction of the time that the pruned copy took."""

    allocation: Allocation
    ratio: float


def _measured(plan: Plan, model: Model, costs: GroupCosts, context: Context, realise: Realise) -> Allocation:
    feed = probe_feed(model, context)
    session = Session(model, threads=context.threads)
    priced = costs.priced(_price(plan, costs, session, feed, context))
    wanted, budget = plan.goal.budget, plan.goal.budget
    trials: list[_Trial] = []
    tried: list[tuple[float, float]] = []
    for _ in context.progress.track(range(ATTEMPTS), "matching the speed-up"):
        allocation = plan.at(budget).allocation(priced)
        same = next((trial for trial in trials if trial.allocation.counts == allocation.counts), None)
        if same is None:
            trials.append(_Trial(allocation, _ratio(session, realise(allocation.counts), feed, context.threads)))
        tried.append((budget, (same or trials[-1]).ratio))
        at_floor = allocation.shortfall is not None and tried[-1][1] > wanted
        if len(trials) == ROUNDS or at_floor or abs(math.log(tried[-1][1] / wanted)) <= math.log1p(TOLERANCE):
            break
        budget = next_budget(tried, wanted)
    return _conclusion(plan.goal, trials)


def _ratio(session: Session, pruned: Model, feed: Mapping[str, np.ndarray], threads: int) -> float:
    """Time of the pruned model relative to that of the session; looks longer where the machine is restless."""
    other = Session(pruned, threads=threads)
    timing = compare_latency(lambda: session.run(feed), lambda: other.run(feed), seconds=SECONDS)
    if timing.high > timing.low * (1 + ALLOWED):
        timing = compare_latency(lambda: session.run(feed), lambda: other.run(feed), seconds=LONG_SECONDS)
    return timing.ratio


def _price(plan: Plan, costs: GroupCosts, session: Session, feed: Mapping[str, np.ndarray], context: Context) -> Price:
    whole = median_latency(lambda: session.run(feed)) / 1e3
    bench = Bench(context.threads, context.cache)
    return measured_price(costs, plan.limits, whole, bench, context.progress)


def next_budget(tried: list[tuple[float, float]], wanted: float) -> float:
    """The budget to try next, from pairs of budget and measured ratio; ratios grow with budgets.

    >>> next_budget([(0.5, 0.6)], 0.5) < 0.5
    True
    """
    below = max((pair for pair in tried if pair[1] <= wanted), default=None)
    above = min((pair for pair in tried if pair[1] > wanted), default=None)
    if below is None or above is None:
        budget, ratio = below or above or (wanted, wanted)
        return min(1.0, float(budget * (wanted / ratio) ** (1 / _steepness(tried))))
    part = math.log(wanted / below[1]) / math.log(above[1] / below[1])
    part = min(max(part, _MARGIN), 1 - _MARGIN)
    return float(below[0] * (above[0] / below[0]) ** part)


def _steepness(tried: list[tuple[float, float]]) -> float:
    """By which power of the budget the ratio grew between the last two pairs; 1 where that is not known."""
    if len(tried) < 2 or tried[-1][0] == tried[-2][0]:
        return 1.0
    rise = math.log(tried[-1][1] / tried[-2][1]) / math.log(tried[-1][0] / tried[-2][0])
    return min(max(rise, _FLATTEST), 1 / _FLATTEST)


def _conclusion(goal: Goal, trials: list[_Trial]) -> Allocation:
    """The trial nearest to the goal, and whether that is near enough."""
    best = min(trials, key=lambda trial: abs(math.log(trial.ratio / goal.budget)))
    note = f"{goal.words(best.ratio)} measured after {len(trials)} round{'s' if len(trials) > 1 else ''}"
    shortfall = None
    if best.ratio > goal.budget * (1 + ALLOWED):
        why = f"{goal.words(goal.budget)} was not reached: the best that was measured is {goal.words(best.ratio)}"
        shortfall = Refusal("prune", why, _FIX)
    return Allocation(best.allocation.counts, best.ratio, shortfall, (note,))


def probe_feed(model: Model, context: Context) -> dict[str, np.ndarray]:
    """One sample to measure with: the first of the calibration data, else random."""
    for feed in context.calibration or ():
        return {name: array[:1] if _free_batch(model, name) else array for name, array in feed.items()}
    shapes, rng = concrete_shapes(model), np.random.default_rng(context.seed)
    return {
        value.name or "": random_array(shapes[value.name or ""], (value.dtype or DataType.FLOAT).numpy(), rng)
        for value in model.graph.inputs
    }


def _free_batch(model: Model, name: str) -> bool:
    """Whether the input has a first axis of any size."""
    dims = next((dims_of(value) for value in model.graph.inputs if value.name == name), None)
    return dims is not None and len(dims) > 0 and dims[0] is None
