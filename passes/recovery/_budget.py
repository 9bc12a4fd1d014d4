"""How long a repair by trial may take, and what fits into that.

One rate is measured: the seconds s that the start model takes for a sample. All else is counted, and scaled by it:

    biases     BIAS_RUNS · n · s                           for n samples: both models run, layer after layer
    weights    the same once more, and DOUBLE · multiplications · s / (multiply-accumulates of a sample)

So the share of the time that the calibration data takes, which is N · s, means a number of samples whatever the machine
and whatever else it does. Numbers of samples are powers of two, so that noise of s seldom makes a difference either.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphpress.analysis.cost import model_cost
from graphpress.analysis.linear import LinearOp, linear_op_of
from graphpress.data import Feed, Samples, batch_of
from graphpress.deadline import PASSES, Deadline
from graphpress.ir import Model
from graphpress.observation.gram import POSITIONS
from graphpress.observation.least_squares import RIDGE_STEPS
from graphpress.runtime import Infer

BIAS_RUNS, WEIGHT_RUNS = 10, 25
"""What the trials take, in runs of the start model on the same samples (measured on ResNet-50, whole and of a quarter
of the width, and on MobileNetV1-0.25)."""
DOUBLE = 2
"""A multiplication in double precision takes about two of the model's own."""
FEWEST, FEWEST_TO_SOLVE = 8, 16
"""Samples that means are taken of however large the model is, and least of those that weights are solved from."""
OF_TIME_LEFT = 0.3
"""Share of what a time limit leaves to passes that one trial may take."""


@dataclass(frozen=True)
class RepairBudget:
    """What one trial may take.

    Args:
        seconds: for all of it.
        per_sample: seconds that the start model takes for one.
    """

    seconds: float
    per_sample: float

    @staticmethod
    def of(start: Infer, data: Iterable[Feed], share: float, least: float, deadline: Deadline) -> RepairBudget | None:
        """Measure the rate.

        Args:
            start: runs the start model.
            data: the calibration data.
            share: of the time in which the start model runs through them.
            least: seconds that are granted in any case.
            deadline: of the run.

        Returns:
            The budget; None where the deadline leaves no time for the fewest samples.
        """
        rate = _seconds_per_sample(start, data)
        count = data.count if isinstance(data, Samples) else sum(map(batch_of, data))
        wanted = max(least, share * count * rate)
        most = OF_TIME_LEFT * deadline.left(PASSES)
        return None if most < FEWEST * BIAS_RUNS * rate else RepairBudget(min(wanted, most), rate)

    def samples(self, most: int) -> int:
        """How many samples biases are corrected on."""
        affordable = self.seconds / (BIAS_RUNS * self.per_sample)
        return min(most, max(FEWEST, 1 << int(np.log2(max(affordable, 1)))))

    def samples_for_weights(self, model: Model, most: int) -> int | None:
        """On how many samples weights are solved for; None where that takes too long even on the fewest."""
        samples = most
        while self.seconds_for_weights(model, samples) > self.seconds:
            if samples <= FEWEST_TO_SOLVE:
                return None
            samples = max(samples // 2, FEWEST_TO_SOLVE)
        return samples

    def seconds_for_weights(self, model: Model, samples: int) -> float:
        """What solving for the weights of a model takes on so many samples."""
        work = sum(_multiplications(op, samples) for op in map(linear_op_of, model.graph) if op is not None)
        share = DOUBLE * work / max(model_cost(model).macs, 1)
        return self.per_sample * (WEIGHT_RUNS * samples + share)


def _seconds_per_sample(run: Infer, data: Iterable[Feed]) -> float:
    """The shorter of two calls, behind a first that warms up."""
    few = data.take([0]) if isinstance(data, Samples) else data
    feed = next(iter(few))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        run(feed)
        times.append(time.perf_counter() - began)
    return min(times[1:]) / batch_of(feed)


def _multiplications(op: LinearOp, samples: int) -> float:
    """What least squares takes for a layer: its Gram matrix, and a Cholesky decomposition for each ridge."""
    blocks, features, _ = op.matrix_shape
    return blocks * (samples * POSITIONS * features**2 + (len(RIDGE_STEPS) + 1) * features**3 / 3.0)
