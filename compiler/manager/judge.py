"""The accuracy budget: the metric of the very model that would be delivered, against that of the input model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphpress.data import Samples
from graphpress.evaluation import Metric, Score, drop_interval, score_model
from graphpress.ir import Model
from graphpress.progress import Progress
from graphpress.report.records import Verdict
from graphpress.runtime import Runner

CONFIDENCE = 0.95
ROUNDING = 1e-9
"""A drop of exactly the budget, but for the rounding of a mean, is inside it."""


@dataclass(frozen=True)
class MetricJudge:
    """Measures candidates on the samples that gate passes.

    Args:
        metric: what is measured.
        samples: on what.
        baseline: the input model's score on the same samples.
        reference: the input model, for metrics that compare with it.
        simulate: turns an annotated model into one that computes what would be delivered.
        max_drop: the budget; None waives it.
        threads: threads of the runtime.
        progress: where to tell how far it is.
    """

    metric: Metric
    samples: Samples
    baseline: Score
    reference: Runner
    simulate: Callable[[Model], Model]
    max_drop: float | None
    threads: int
    progress: Progress

    def judge(self, model: Model) -> tuple[float | None, Verdict | None, bool]:
        """Metric, verdict with its interval, and whether the drop is inside the budget."""
        simulated = self.simulate(model)
        score = score_model(simulated, self.samples, self.metric, self.reference, self.threads, self.progress)
        verdict = verdict_on(self.baseline, score, self.max_drop)
        return score.value, verdict, self.max_drop is None or verdict.drop <= self.max_drop + ROUNDING


@dataclass(frozen=True)
class NoJudge:
    """Without data nothing is measured: passes that were asked for run ungated."""

    def judge(self, model: Model) -> tuple[float | None, Verdict | None, bool]:
        """No metric, no verdict, no objection."""
        return None, None, True


def verdict_on(baseline: Score, score: Score, max_drop: float | None) -> Verdict:
    """The drop between two scores on the same samples, with its paired interval."""
    interval = drop_interval(baseline, score, CONFIDENCE)
    return Verdict(
        drop=interval.drop,
        low=interval.low,
        high=interval.high,
        confidence=CONFIDENCE,
        samples=score.count,
        max_drop=max_drop,
    )
