"""The time that a run may take, and who has how much of it.

Long work is made of loops that tell how far they are. A progress that knows the deadline ends them: the work that was
under way is given up, what was done before it stays. What comes behind has a part of the time kept for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from graphpress.progress import Progress

T = TypeVar("T")

PASSES, VERDICTS = 0.6, 0.85
"""Shares of the time after which passes, and after which measuring them, come to an end; the rest is for delivery."""
TRAINING = 0.8
"""Share of the time left to passes that a training may take."""


class OutOfTimeError(Exception):
    """The time limit was reached in the middle of something."""


@dataclass(frozen=True)
class Deadline:
    """When a run has to be through.

    Args:
        began: moment (``time.monotonic``) at which it began.
        seconds: how long it may take; None for as long as it likes.
    """

    began: float
    seconds: float | None = None

    def at(self, share: float) -> float:
        """The moment (``time.monotonic``) at which this share of the time is over; infinite without a limit."""
        return float("inf") if self.seconds is None else self.began + share * self.seconds

    def left(self, share: float = 1.0) -> float:
        """Seconds until then, none if it is over."""
        return max(0.0, self.at(share) - time.monotonic())


NO_DEADLINE = Deadline(0.0)


@dataclass(frozen=True)
class TimedProgress:
    """A progress whose loops end at a moment.

    Args:
        progress: what watches them.
        end: the moment (``time.monotonic``).
    """

    progress: Progress
    end: float

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        """Yield the items.

        Raises:
            OutOfTimeError: the moment is over, before the first or between two items.
        """
        if self.end == float("inf"):
            return self.progress.track(items, description, total)
        return self._until_the_end(self.progress.track(items, description, total))

    def _until_the_end(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            if time.monotonic() > self.end:
                raise OutOfTimeError
            yield item
