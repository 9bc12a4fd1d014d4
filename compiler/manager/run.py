"""What came of a pipeline: the states of the model that passed their checks, and the record of each pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from graphpress.analysis.model_size import ModelSize, model_size
from graphpress.analysis.shapes import known_shapes
from graphpress.ir import Dims, Model
from graphpress.manager.evaluator import EvaluationResult
from graphpress.manager.pass_run import PassRun
from graphpress.manager.records import PassRecord, RefusalRecord, Verdict


@dataclass(frozen=True)
class Checkpoint:
    """A state of the model that passed its checks.

    Args:
        model: not changed any more.
        transactions: names of the passes of each accepted transaction so far.
        metric: as last measured, if it was.
        verdict: of the last accepted transaction.
        changes: how many changes led here.
        result: what came of measuring this very model; None where it was not.
        shapes: static shapes of its values by name, as far as they are known.
    """

    model: Model
    transactions: tuple[str, ...] = ()
    metric: float | None = None
    verdict: Verdict | None = None
    changes: int = 0
    result: EvaluationResult | None = None
    shapes: Mapping[str, Dims] = field(default_factory=dict)


@dataclass(frozen=True)
class LosslessStage:
    """A run of lossless passes.

    Args:
        start: the state that it began with.
        pass_runs: of those that ran.
    """

    start: Checkpoint
    pass_runs: Sequence[PassRun]


@dataclass
class Run:
    """What came of a pipeline.

    Args:
        checkpoints: accepted states, the input model's first.
        pass_runs: one per pass of the recipe.
        missed: transactions that were rolled back for the budget, by the names of their passes.
        rejected: the model as the last of these left it.
        stages: of lossless passes.
    """

    checkpoints: list[Checkpoint]
    pass_runs: list[PassRun] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    rejected: Model | None = None
    stages: list[LosslessStage] = field(default_factory=list)

    def take_over(self, pass_runs: Iterable[PassRun]) -> None:
        """Passes that ran again, in place of their first runs."""
        for pass_run in pass_runs:
            self.pass_runs[pass_run.position] = pass_run

    def records(self) -> list[PassRecord]:
        """One record per pass."""
        first = self.checkpoints[0]
        size = model_size(first.model, known_shapes(first.model, first.shapes))
        stages: dict[Model, ModelSize] = {}
        records = []
        for pass_run in self.pass_runs:
            after = pass_run.size_after(size, stages)
            records.append(pass_run.record(after))
            if pass_run.status == "applied":
                size = after
        return records

    def refusals(self) -> list[RefusalRecord]:
        """Everything that could have been done and was not."""
        return [
            RefusalRecord(pass_name=pass_run.pass_.name, where=refusal.where, why=refusal.why, fix=refusal.fix)
            for pass_run in self.pass_runs
            for refusal in pass_run.refusals
        ]
