"""The record of a pass while its pipeline runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from graphpress.analysis.model_size import ModelSize, model_size
from graphpress.analysis.shapes import concrete_shapes, known_shapes
from graphpress.ir import Dims, Model, Refusal, count_nodes
from graphpress.manager.contract import Pass
from graphpress.manager.recipe import options_of
from graphpress.manager.records import TIME_IS_UP, DecomposedLayer, PassRecord, PassStatus


@dataclass
class PassRun:
    """The record of a pass while it grows.

    Counting parameters and multiply-accumulates takes longer than most lossless passes do. They are therefore counted
    where the record is asked for, once for all lossless passes of a stage, in the model with which the stage ended.

    Args:
        shapes: static shapes of the model's values by name, as far as they are known: before the pass, and after it
            once a lossy one changed something.
        nodes: of the model right after its first change.
        size: of the model right after its first change, for a lossy pass.
        result: with which its stage ended, for a lossless pass that changed something.
        decomposed: layers that became chains.
        failure: the exception that ended it; empty for one that did not break.
        alternative: what would run where this lossy pass refuses, as an option of the command line; empty for nothing.
    """

    pass_: Pass
    position: int = 0
    status: PassStatus = "applied"
    seconds: float = 0.0
    verify_seconds: float = 0.0
    measure_seconds: float = 0.0
    changes: int = 0
    metric: float | None = None
    notes: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    transaction: int | None = None
    shapes: Mapping[str, Dims] = field(default_factory=dict)
    nodes: int | None = None
    size: ModelSize | None = None
    result: Model | None = None
    decomposed: Sequence[DecomposedLayer] = ()
    failure: str = ""
    alternative: str = ""

    @property
    def has_changed(self) -> bool:
        """Whether the result has changes of this pass."""
        return self.status == "applied" and bool(self.changes)

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)

    def refuse(self, refusal: Refusal) -> None:
        """The pass does not run, for this reason."""
        self.status, self.refusals = "refused", [refusal]

    def refuse_for_time(self) -> None:
        """The pass does not run, for want of time."""
        self.refuse(Refusal(self.pass_.name, TIME_IS_UP, "raise --time-limit"))

    def leave_out(self, why: str) -> None:
        """The pass ran, and the result is made without it.

        Args:
            why: what speaks against it.
        """
        self.status, self.changes = "rolled_back", 0
        self.note(f"dropped: {why}")

    def fail(self, failure: str) -> None:
        """The pass broke: what it did is dropped.

        Args:
            failure: how, in words.
        """
        self.failure, self.status, self.changes = failure, "rolled_back", 0
        self.note(f"dropped: it failed ({failure})")

    def measure(self, model: Model) -> None:
        """Take the size of the model after a change: all of it exactly where the pass may have changed shapes."""
        if self.nodes is not None:
            return
        self.nodes = count_nodes(model)
        if self.transaction is not None:
            self.shapes = concrete_shapes(model)
            self.size = model_size(model, self.shapes)

    def restart(self) -> None:
        """Forget what it changed: the passes run again, without one that broke."""
        self.changes, self.nodes = 0, None

    def size_after(self, before: ModelSize, stages: dict[Model, ModelSize]) -> ModelSize:
        """The size of the model after the pass.

        Args:
            before: the model before it, which is how a pass that changed nothing left it.
            stages: sizes that were counted already, by the result of a stage; grows.
        """
        if self.result is None or self.nodes is None:
            return self.size or before
        if self.result not in stages:
            stages[self.result] = model_size(self.result, known_shapes(self.result, self.shapes))
        return replace(stages[self.result], nodes=self.nodes)

    def record(self, size: ModelSize) -> PassRecord:
        """The finished record.

        Args:
            size: of the model after it.
        """
        notes = list(self.notes)
        if self.status == "applied" and not self.changes:
            notes.append("nothing to change")
        return PassRecord(
            name=self.pass_.name,
            status=self.status,
            seconds=self.seconds,
            verify_seconds=self.verify_seconds,
            measure_seconds=self.measure_seconds,
            metric=self.metric,
            notes=tuple(notes),
            options=options_of(self.pass_),
            changes=self.changes,
            **({} if self.status == "refused" else asdict(size)),
            transaction=self.transaction,
            decomposed=self.decomposed,
            failure=self.failure,
        )
