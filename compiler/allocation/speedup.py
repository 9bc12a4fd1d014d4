"""A speed-up that holds end to end: allocate, change a copy, measure it against the model as it was, correct, repeat.

Times of single parts leave out what only the whole shows (caches, layouts, threads). So the budget given to the
solver is corrected until the measured ratio is the one asked for, in logarithms: first in proportion, then along the
secant, and with budgets on either side by interpolation between them (regula falsi, kept off the ends so that the
bracket shrinks). Both models are timed in turn in one process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from graphpress.ir import Model
from graphpress.progress import Progress, Silent
from graphpress.runtime import Session, compare_latency

C = TypeVar("C")

ROUNDS = 6
"""Changed copies that are measured at most."""
ATTEMPTS = 16
"""Budgets that are tried at most; several may lead to the same choices."""
TOLERANCE = 0.03
"""Relative distance of the measured ratio from the one wanted at which the search stops."""
ALLOWED = 0.10
"""Relative distance that counts as met."""
SECONDS = 2.0
"""Time that one comparison takes."""
LONG_SECONDS = 6.0
"""The same where the interval of the ratio was wider than what counts as met."""

_FLATTEST = 0.5
"""The lowest power of the budget with which the ratio is taken to grow."""
_MARGIN = 0.15
"""How far inside its bracket a new budget lies, as a fraction of the bracket."""


@dataclass(frozen=True)
class Trial(Generic[C]):
    """Choices by item, and the fraction of the time that the model took with them."""

    choices: dict[str, C]
    ratio: float


def match_ratio(
    wanted: float,
    allocate: Callable[[float], tuple[dict[str, C], bool]],
    measure: Callable[[dict[str, C]], float],
    progress: Progress | None = None,
) -> list[Trial[C]]:
    """Look for choices with which a model takes this fraction of its time.

    Args:
        wanted: the fraction.
        allocate: choices for a budget, and whether they are within it.
        measure: the fraction of the time that is taken with choices; asked once for each.
        progress: shows how far it is.

    Returns:
        What was measured, in order; one trial at least. ``nearest`` picks the one nearest to what is wanted.
    """
    trials: list[Trial[C]] = []
    tried: list[tuple[float, float]] = []
    budget = wanted
    for _ in (progress or Silent()).track(range(ATTEMPTS), "matching the speed-up"):
        choices, met = allocate(budget)
        trial = next((trial for trial in trials if trial.choices == choices), None)
        if trial is None:
            trial = Trial(choices, measure(choices))
            trials.append(trial)
        tried.append((budget, trial.ratio))
        exhausted = not met and trial.ratio > wanted
        if len(trials) == ROUNDS or exhausted or abs(math.log(trial.ratio / wanted)) <= math.log1p(TOLERANCE):
            break
        budget = next_budget(tried, wanted)
    return trials


def nearest(trials: list[Trial[C]], wanted: float) -> Trial[C]:
    """The trial whose ratio is nearest to the one wanted, in logarithms; the first of equals."""
    return min(trials, key=lambda trial: abs(math.log(trial.ratio / wanted)))


def is_near_enough(ratio: float, wanted: float) -> bool:
    """Whether a measured ratio counts as the one wanted, or better."""
    return ratio <= wanted * (1 + ALLOWED)


def latency_ratio(session: Session, changed: Model, feed: Mapping[str, np.ndarray], threads: int) -> float:
    """Time of a changed model relative to that of the session; looks longer where the machine is restless."""
    other = Session(changed, threads=threads)
    timing = compare_latency(lambda: session.run(feed), lambda: other.run(feed), seconds=SECONDS)
    if timing.high > timing.low * (1 + ALLOWED):
        timing = compare_latency(lambda: session.run(feed), lambda: other.run(feed), seconds=LONG_SECONDS)
    return timing.ratio


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
