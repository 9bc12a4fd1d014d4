"""How large a learning rate may be, found from the run itself: short trainings from the same start, on held-out data.

A rate in proportion to the weights (``optimizer``) suits a start that has most of its way before it. From a good one (a
pruned model that least squares has repaired, a deep network) its first steps lose more than the rest wins back. Each
trial is a whole schedule in small, with the fall to zero that shows what a rate leads to.

Short trials favor small rates, since the way that large ones go further is still short. So the largest rate is taken
that all but breaks even. (Measured on a ResNet-20 whose stream is pruned too, at 0.47 of its work and repaired, its
held-out loss 2.503: at shares of 1, 0.3, 0.1 it is 2.558, 2.440, 2.415 after 40 steps, but 1.914, 1.981, 2.134 after
600.) A rate that is too high after all is lowered by the training itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

SHARES = (1.0, 0.3, 0.1, 0.03)
"""Of the rate in proportion to the weights: what is tried, the largest first."""
BUDGET = 0.15
"""Share of a training that all trials together may take."""
MAX_STEPS = 60
MIN_STEPS = 20
"""Below this, trials show noise alone: there are none."""
EVEN = 1.05
"""Times the loss at the start: up to there a trial all but breaks even, and the whole way gains."""


def trial_steps(steps: int | None, seconds: float | None, each: float) -> int:
    """How many steps a trial takes; 0 where the training is too short for any.

    Args:
        steps: of the whole training, if that bounds it.
        seconds: of the whole training, if that bounds it.
        each: seconds of a step.

    >>> trial_steps(2000, None, 0.1), trial_steps(None, 60.0, 0.1), trial_steps(100, None, 0.1)
    (60, 30, 0)
    """
    by_time = math.inf if seconds is None else seconds / max(each, 1e-9)
    count = int(min(MAX_STEPS, BUDGET * min(math.inf if steps is None else steps, by_time) / (len(SHARES) - 1)))
    return count if count >= MIN_STEPS else 0


def find_share(start: float, trial: Callable[[float], float]) -> float:
    """The largest share of the full rate whose trial all but breaks even; the smallest where none does.

    Args:
        start: the held-out loss before.
        trial: the held-out loss after a short training at a share; no more are made than it takes.

    >>> find_share(0.934, {1.0: 1.2, 0.3: 0.95}.__getitem__)
    0.3
    """
    return next((share for share in SHARES[:-1] if trial(share) <= EVEN * start), SHARES[-1])
