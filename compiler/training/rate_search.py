"""How large a learning rate may be, found from the run itself: short trainings from the same start, on held-out data.

A rate in proportion to the weights (``optimizer``) suits a start that has most of its way before it. From a good one (a
pruned model that least squares has repaired, a deep network) its first steps lose more than the rest wins back. Each
trial is a whole schedule in small, with the fall to zero that shows what a rate leads to.

Short trials favor small rates, since the way that large ones go further is still short. So the largest rate is taken
whose gain is a fair part of the best one's. (Measured on a ResNet-20 with its stream, pruned to 0.47 of its work and
repaired, loss 2.503: after 40 steps 2.503, 2.445, 2.411, 2.433 at shares of 1, 0.3, 0.1, 0.03; after 240 steps 2.154 at
0.3, 2.254 at 0.1.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

SHARES = (1.0, 0.3, 0.1, 0.03)
"""Of the rate in proportion to the weights: what is tried, the largest first."""
BUDGET = 0.1
"""Share of a training that all trials together may take."""
MAX_STEPS = 40
MIN_STEPS = 10
"""Below this, trials show noise alone: there are none."""
FAIR_PART = 0.5
"""Of the best gain, with which a larger rate is preferred."""


def trial_steps(steps: int | None, seconds: float | None, each: float) -> int:
    """How many steps a trial takes; 0 where the training is too short for any.

    Args:
        steps: of the whole training, if that bounds it.
        seconds: of the whole training, if that bounds it.
        each: seconds of a step.

    >>> trial_steps(2000, None, 0.1), trial_steps(None, 60.0, 0.1), trial_steps(100, None, 0.1)
    (40, 15, 0)
    """
    by_time = math.inf if seconds is None else seconds / max(each, 1e-9)
    count = int(min(MAX_STEPS, BUDGET * min(math.inf if steps is None else steps, by_time) / len(SHARES)))
    return count if count >= MIN_STEPS else 0


def find_share(start: float, trial: Callable[[float], float]) -> float:
    """The share of the full rate to train with; the smallest where no trial gains anything.

    Trials end where a smaller share gains less than one before it.

    Args:
        start: the held-out loss before.
        trial: the held-out loss after a short training at a share.

    >>> find_share(2.5, {1.0: 2.6, 0.3: 2.45, 0.1: 2.41, 0.03: 2.43}.__getitem__)
    0.3
    """
    gains: dict[float, float] = {}
    for share in SHARES:
        gains[share] = start - trial(share)
        if 0 < max(gains.values()) > gains[share]:
            break
    best = max(gains.values())
    return next((share for share, gain in gains.items() if gain >= FAIR_PART * best > 0), min(SHARES))
