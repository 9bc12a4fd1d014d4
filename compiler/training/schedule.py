"""How far a training is, by step and by clock, and the learning rate that follows.

    factor(p) = warm(p) · (1 + cos πp) / 2          p = progress from 0 to 1   (Loshchilov & Hutter 2017, equation 5)

A training bounded by steps has p = step / steps. One bounded by time cannot ask the clock at every step and still be
repeatable, so it asks now and then how many steps the rest of the time is good for, and records the answer: a
*knot* (step, steps still to come). Between knots progress is a straight line that reaches 1 when the steps run out;
at a knot it only changes its slope. Given the knots, everything is a function of the step, on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

WARM_UP = 0.03
"""Share of the training over which the learning rate rises."""
COLD = 0.1
"""Factor at the first step."""


def learning_rate_factor(progress: float) -> float:
    """What the learning rate is multiplied with: a short rise, then half a cosine down to zero.

    >>> [round(learning_rate_factor(p), 3) for p in (0.0, 0.03, 0.5, 1.0)]
    [0.1, 0.998, 0.5, 0.0]
    """
    done = min(max(progress, 0.0), 1.0)
    warm = min(1.0, COLD + (1.0 - COLD) * done / WARM_UP)
    return warm * (1.0 + math.cos(math.pi * done)) / 2.0


@dataclass
class ProgressPlan:
    """Progress as a function of the step.

    Args:
        knots: (step, steps still to come from there), steps increasing.
        fixed: the knots are those of an earlier training that is repeated: no more are added.
    """

    knots: list[tuple[int, int]] = field(default_factory=list)
    fixed: bool = False
    _heights: list[float] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        given, self.knots = list(self.knots), []
        for step, left in given:
            self._add(step, left)

    @property
    def steps(self) -> int:
        """How many steps the training takes, as far as is known."""
        step, left = self.knots[-1]
        return step + left

    def progress(self, step: int) -> float:
        """From 0 before the first step to 1 behind the last."""
        index = len(self.knots) - 1
        while index and self.knots[index][0] > step:
            index -= 1
        return self._line(index, step)

    def replan(self, step: int, left: int) -> None:
        """From this step on, ``left`` steps are still to come."""
        if not self.fixed:
            self._add(step, left)

    def recorded(self) -> list[list[int]]:
        """The knots as a decision keeps them."""
        return [[step, left] for step, left in self.knots]

    def _add(self, step: int, left: int) -> None:
        height = self.progress(step) if self.knots else 0.0
        if self.knots and self.knots[-1][0] == step:
            self.knots.pop()
            self._heights.pop()
        self.knots.append((step, max(left, 0)))
        self._heights.append(height)

    def _line(self, index: int, step: int) -> float:
        (start, left), height = self.knots[index], self._heights[index]
        if step >= start + left:
            return 1.0
        return height + (1.0 - height) * (step - start) / left


def repeated(knots: Iterable[Sequence[int]]) -> ProgressPlan:
    """The plan of a recorded training."""
    return ProgressPlan([(int(step), int(left)) for step, left in knots], fixed=True)
