"""What a pass may measure of a model that it changes: the user's metric, and damage.

Both are taken on samples that a pass may choose by:

    the selection part      where the data has one: what gates passes as well
    the calibration part    otherwise

never on the evaluation part, which gives the final figure: it would no longer be held out. (Where the data has only one
part, ``graphpress.data`` lets it serve as both, and a note in the report warns that the figure flatters.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from graphpress.data import Dataset, Samples
from graphpress.errors import DataError
from graphpress.evaluation.evaluate import Score, evaluate, score_model
from graphpress.evaluation.metric import Metric
from graphpress.evaluation.sensitivity import SAMPLES, DamageMeasure
from graphpress.ir import Model
from graphpress.progress import Progress, Silent
from graphpress.runtime import Infer, Session


@dataclass(frozen=True)
class EvaluationService:
    """Measures changed models on held-out samples, as the target would deliver them.

    Args:
        samples: what everything is measured on.
        split: which part of the data they are: ``selection`` or ``calibration``.
        measured: the user's metric; None where it cannot be taken on these samples.
        judge: the same, or what bounds its drop there (``Metric.bound``): what a pass can hold to the accuracy budget.
        original: runs the model as it came in.
        simulate: turns an annotated model into one that computes what would be delivered.
        threads: of the runtime.
        progress: shows how far a metric is.
        max_drop: the accuracy budget; None where it is waived.
    """

    samples: Samples
    split: str
    measured: Metric | None
    judge: Metric | None
    original: Infer
    simulate: Callable[[Model], Model]
    threads: int = 1
    progress: Progress = field(default_factory=Silent)
    max_drop: float | None = None

    @staticmethod
    def of(
        data: Dataset,
        metric: Metric | None,
        original: Infer,
        simulate: Callable[[Model], Model],
        threads: int = 1,
        progress: Progress | None = None,
        max_drop: float | None = None,
    ) -> EvaluationService | None:
        """The service for a run's data; None without data. Arguments are those of the class."""
        samples = data.selection or data.calibration
        if samples is None:
            return None
        split = "calibration" if data.selection is None else "selection"
        measured = metric if metric is not None and _can_be_taken(metric, samples, data) else None
        judge = measured or (metric and metric.bound)
        return EvaluationService(
            samples, split, measured, judge, original, simulate, threads, progress or Silent(), max_drop
        )

    def metric(self, model: Model) -> Score | None:
        """The user's metric of a model, higher being better.

        Args:
            model: annotated or not; not changed.

        Returns:
            The score; None where the metric needs labels and the samples have none.

        Raises:
            ModelError: it cannot be run.
        """
        return None if self.measured is None else self._score(self.measured, model)

    def judged(self, model: Model) -> Score | None:
        """A model's score by the judge, to be held against ``baseline``; None where there is no judge.

        Raises:
            ModelError: it cannot be run.
        """
        return None if self.judge is None else self._score(self.judge, model)

    @cached_property
    def baseline(self) -> Score | None:
        """The score of the model that came in by the judge; None without one, of one that takes a model file, and where
        outputs and samples do not go together.
        """
        if self.judge is None or self.judge.of_model is not None:
            return None
        try:
            return evaluate(self.original, self.samples, self.judge, self.original, progress=self.progress)
        except DataError:
            return None

    def damage(self, reference: Model | None = None, samples: int = SAMPLES) -> DamageMeasure:
        """What a change does to the outputs; needs no labels, and resolves more than a metric.

        Args:
            reference: the model that damage is counted from; None for the one that came in, whose outputs are then
                computed once for all passes.
            samples: on how many it is measured, at most; of the model that came in, always ``SAMPLES``.

        Raises:
            DataError: there are no samples, or the reference's outputs hold NaN.
        """
        if reference is None:
            return self._from_original
        return self._measure(Session(self.simulate(reference), threads=self.threads), samples)

    def _score(self, metric: Metric, model: Model) -> Score:
        return score_model(self.simulate(model), self.samples, metric, self.original, self.threads, self.progress)

    @cached_property
    def _from_original(self) -> DamageMeasure:
        return self._measure(self.original, SAMPLES)

    def _measure(self, reference: Infer, samples: int) -> DamageMeasure:
        feeds = self.samples.spread(samples)
        return DamageMeasure.of(reference, feeds, threads=self.threads, simulate=self.simulate, data=self.split)


def _can_be_taken(metric: Metric, samples: Samples, data: Dataset) -> bool:
    """Whether a metric that was chosen for the evaluation part can be taken on these samples too."""
    if samples.labels is not None or metric.needs_reference or metric.of_model is not None:
        return True
    return not metric.needs_labels and (data.evaluation is None or data.evaluation.labels is None)
