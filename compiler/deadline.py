"""The time that a run may take, and who has how much of it.

Long work is made of loops that tell how far they are. A progress that knows the deadline ends them: the work that was
under way is given up, what was done before it stays. What comes behind has a part of the time kept for it: at least
what it is going to take, by what opening and scoring the input model took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from graphpress.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Phase:
    """A part of a run that comes to an end in time for those behind it.

    Args:
        share: of the time, after which it ends at the latest.
        scorings: how often a model is scored behind it.
        openings: how much work is behind it, scoring and timing apart: so many times what opening the input took.
        seconds: of timing that are behind it at least.
    """

    share: float
    scorings: float = 0.0
    openings: float = 0.0
    seconds: float = 0.0


PASSES = Phase(0.6, scorings=2, openings=2, seconds=1.5)
VERDICTS = Phase(0.85, scorings=1, openings=2, seconds=1.5)
"""Measuring what passes made."""
RIVALS = Phase(0.9, scorings=2, openings=2, seconds=3.0)
"""Compiling what is to be delivered with further backends."""
TIMING = Phase(1.0, scorings=1, openings=1)
"""Comparing what is to be delivered with the input."""
WHOLE = Phase(1.0)
MARGIN = 1.2
"""What was measured on the input takes so much longer on a result, and while a machine becomes busier."""
TRAINING = 0.8
"""Share of the time left to passes that a training may take."""


class OutOfTimeError(Exception):
    """The time limit was reached in the middle of something."""


@dataclass(eq=False)
class Deadline:
    """When a run has to be through, and what it learns of the time that its end will take.

    Args:
        began: moment (``time.monotonic``) at which it began.
        seconds: how long it may take; None for as long as it likes.
        scoring: seconds that it took to score the input model.
        opening: seconds that it took to open and run it.
    """

    began: float
    seconds: float | None = None
    scoring: float = 0.0
    opening: float = 0.0

    def at(self, phase: Phase) -> float:
        """The moment (``time.monotonic``) at which this phase ends; infinite without a limit."""
        if self.seconds is None:
            return float("inf")
        behind = MARGIN * (phase.scorings * self.scoring + phase.openings * self.opening) + phase.seconds
        return self.began + min(phase.share * self.seconds, self.seconds - behind)

    def left(self, phase: Phase = WHOLE) -> float:
        """Seconds until then, none if it is over."""
        return max(0.0, self.at(phase) - time.monotonic())


NO_DEADLINE = Deadline(0.0)


@dataclass(frozen=True)
class TimedProgress:
    """A progress whose loops end at a moment.

    Args:
        progress: what watches them.
        end: the moment (``time.monotonic``), asked anew between two items: it may come nearer.
    """

    progress: Progress
    end: Callable[[], float]

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        """Yield the items.

        Raises:
            OutOfTimeError: the moment is over, before the first or between two items.
        """
        if self.end() == float("inf"):
            return self.progress.track(items, description, total)
        return self._until_the_end(self.progress.track(items, description, total))

    def _until_the_end(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            if time.monotonic() > self.end():
                raise OutOfTimeError
            yield item
