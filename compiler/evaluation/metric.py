"""What a metric is: scores of samples, and how the figure comes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from graphpress.evaluation.outputs import Predictions

Unit = Literal["points", "dB", "nats"]
"""What a drop of a metric is told in; points are hundredths."""


@dataclass(frozen=True)
class Guess:
    """What blind guessing is worth: ``tries`` different classes out of ``classes``."""

    tries: int
    classes: int

    @property
    def value(self) -> float:
        """The expected share of hits."""
        return self.tries / self.classes


def _mean(scores: np.ndarray) -> float:
    return float(scores.mean())


def _no_remark(_: Predictions) -> str:
    return ""


def _no_guess(_: Predictions) -> Guess | None:
    return None


@dataclass(frozen=True)
class Metric:
    """A figure of merit, higher being better.

    Args:
        name: as in the report.
        score: scores of one batch: ``[count, ...]``, or a single number for the whole batch.
        needs_labels: it cannot be taken without labels.
        needs_reference: it compares with the original model's outputs.
        reduce: from the scores of all samples to the figure.
        of_model: instead of all this, the figure of the model in a file.
        remark: a note for the report, given the first batch.
        guess: what guessing would be worth, given the first batch; None where that makes no sense.
        usual_drop: how much of it may be lost where the user does not say.
        unit: of the value; points are hundredths.
        bound: takes its place where the labels that it needs are missing: its drop is no larger than that of this one.
    """

    name: str
    score: Callable[[Predictions], np.ndarray]
    needs_labels: bool = False
    needs_reference: bool = False
    reduce: Callable[[np.ndarray], float] = _mean
    of_model: Callable[[Path], float] | None = None
    remark: Callable[[Predictions], str] = _no_remark
    guess: Callable[[Predictions], Guess | None] = _no_guess
    usual_drop: float = 0.01
    unit: Unit = "points"
    bound: Metric | None = None
