"""The accuracy budget: the metric of the very model that would be delivered, against that of the input model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphpress.backend import Prepared
from graphpress.data import Samples
from graphpress.evaluation import Metric, Score, drop_interval, score_model
from graphpress.evaluation.metric import Unit
from graphpress.ir import Model
from graphpress.manager.records import Verdict
from graphpress.progress import Progress
from graphpress.runtime import Infer

CONFIDENCE = 0.95
ROUNDING = 1e-9
"""A drop of exactly the budget, but for the rounding of a mean, is inside it."""


@dataclass(frozen=True)
class EvaluationResult:
    """What came of measuring a candidate.

    Args:
        passed: whether it may stay.
        prepared: the candidate as its backend works with it, to be compiled later; None where nothing was measured.
        score: its metric on the samples that gate passes; None where nothing was measured.
        verdict: the score against the budget.
    """

    passed: bool
    prepared: Prepared | None = None
    score: Score | None = None
    verdict: Verdict | None = None

    @property
    def metric(self) -> float | None:
        """The metric's value."""
        return None if self.score is None else self.score.value


@dataclass(frozen=True)
class MetricEvaluator:
    """Measures candidates on the samples that gate passes.

    Args:
        metric: what is measured.
        samples: on what.
        baseline: the input model's score on the same samples.
        reference: the input model, for metrics that compare with it.
        prepare: the forms of an annotated model, of which the simulation is measured.
        max_drop: the budget; None waives it.
        threads: threads of the runtime.
        progress: where to tell how far it is.
    """

    metric: Metric
    samples: Samples
    baseline: Score
    reference: Infer
    prepare: Callable[[Model], Prepared]
    max_drop: float | None
    threads: int
    progress: Progress

    def evaluate(self, model: Model) -> EvaluationResult:
        """Metric, verdict with its interval, and whether the drop is inside the budget."""
        prepared = self.prepare(model)
        score = score_model(prepared.simulation, self.samples, self.metric, self.reference, self.threads, self.progress)
        verdict = verdict_on(self.baseline, score, self.max_drop, self.metric.unit)
        return EvaluationResult(is_within(verdict), prepared, score, verdict)


@dataclass(frozen=True)
class NoEvaluator:
    """Without data nothing is measured: passes that were asked for run ungated."""

    def evaluate(self, model: Model) -> EvaluationResult:
        """No metric, no verdict, no objection."""
        return EvaluationResult(passed=True)


def verdict_on(baseline: Score, score: Score, max_drop: float | None, unit: Unit = "points") -> Verdict:
    """The drop between two scores on the same samples, with its paired interval."""
    interval = drop_interval(baseline, score, CONFIDENCE)
    return Verdict(
        drop=interval.drop,
        low=interval.low,
        high=interval.high,
        confidence=CONFIDENCE,
        samples=score.count,
        max_drop=max_drop,
        unit=unit,
    )


def is_within(verdict: Verdict) -> bool:
    """Whether the drop is inside the budget; one that is no number is not."""
    return verdict.max_drop is None or verdict.drop <= verdict.max_drop + ROUNDING


def miss(verdict: Verdict) -> str:
    """By how much the drop misses the budget, in words."""
    allowed = verdict.told(verdict.max_drop or 0.0)
    return f"the metric fell by {verdict.told(verdict.drop)}, more than the {allowed} allowed"
