"""The lossless passes that make a result worse are left out of it, and only these.

What lossless passes are behind a state that is no worse is split by bisection: of the first k of them,

    worse(k)    false for k = 0, true for all    →    pass k is a culprit where worse(k) and not worse(k − 1)

It is left out, and the rest is asked again. Each question builds the stage anew without some of its passes, compiles
and compares; their number is bounded, and what was not cleared when the bound is reached is left out, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from graphpress.deadline import VERDICTS
from graphpress.driver.job import Job
from graphpress.manager.pass_run import PassRun
from graphpress.manager.run import Checkpoint, LosslessStage, Run

T = TypeVar("T")

MOST_CULPRITS = 3
SECONDS = 120.0
"""After so long no more questions are asked."""
LEFT_OUT = "left_out"
"""Under which the manifest records the positions of the passes that were left out."""


@dataclass(frozen=True)
class Variant:
    """A state of the graph, maybe without some lossless passes.

    Args:
        checkpoint: the state.
        pass_runs: of the passes that ran again for it, behind its last transaction.
        left_out: positions in the recipe of the passes that were left out.
    """

    checkpoint: Checkpoint
    pass_runs: tuple[PassRun, ...] = ()
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True)
class Trimmer:
    """Makes a state again, without some of the lossless passes behind its last transaction.

    Args:
        job: the run.
        stages: of lossless passes behind that transaction.
    """

    job: Job
    stages: Sequence[LosslessStage]

    @staticmethod
    def of(job: Job, run: Run, checkpoint: Checkpoint) -> Trimmer:
        """The one for a state of a run."""
        return Trimmer(job, [stage for stage in run.stages if stage.start.transactions == checkpoint.transactions])

    @property
    def suspects(self) -> list[int]:
        """Positions of the passes that changed something."""
        return [pass_run.position for stage in self.stages for pass_run in stage.pass_runs if pass_run.has_changed]

    def name(self, position: int) -> str:
        """Of the pass there."""
        return self.job.config.recipe.passes[position].name

    def without(self, left_out: Sequence[int]) -> Variant:
        """The state without these."""
        manager = replace(self.job.manager(), deadline=self.job.config.deadline.at(VERDICTS))
        checkpoint, pass_runs = self.stages[0].start, list[PassRun]()
        for stage in self.stages:
            kept = [pass_run for pass_run in stage.pass_runs if pass_run.position not in left_out]
            checkpoint, again = manager.repeat(kept, checkpoint, self.job.config.recipe)
            pass_runs += again
        return Variant(checkpoint, tuple(pass_runs), tuple(left_out))


def culprits(suspects: Sequence[T], is_worse: Callable[[Sequence[T]], bool], *, end: float = float("inf")) -> list[T]:
    """Those without which the others are not worse.

    Args:
        suspects: which are worse together, in the order in which they act.
        is_worse: whether these are, and no others; none at all are not.
        end: moment (``time.monotonic``) after which nothing is asked.
    """
    kept, guilty = list(suspects), list[T]()
    while True:
        good, bad = 0, len(kept)
        while bad - good > 1 and time.monotonic() < end:
            middle = (good + bad) // 2
            if is_worse(kept[:middle]):
                bad = middle
            else:
                good = middle
        if bad - good > 1:
            return guilty + kept[good:]
        guilty.append(kept.pop(good))
        if not kept or (time.monotonic() < end and not is_worse(kept)):
            return guilty
        if len(guilty) == MOST_CULPRITS or time.monotonic() >= end:
            return guilty + kept[good:]
