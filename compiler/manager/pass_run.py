"""The record of a pass while its pipeline runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from graphpress.analysis.model_size import ModelSize, model_size
from graphpress.analysis.shapes import concrete_shapes, known_shapes
from graphpress.ir import Dims, Model, Refusal
from graphpress.manager.contract import Pass
from graphpress.manager.recipe import options_of
from graphpress.manager.records import PassRecord, PassStatus


@dataclass
class PassRun:
    """The record of a pass while it grows.

    Args:
        shapes: static shapes of the model's values by name, as far as they are known: before the pass, and after it
            once it changed something.
        size: of the model right after its first change.
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
    size: ModelSize | None = None

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)

    def refuse(self, refusal: Refusal) -> None:
        """The pass does not run, for this reason."""
        self.status, self.refusals = "refused", [refusal]

    def refuse_for_time(self) -> None:
        """The pass does not run, for want of time."""
        self.refuse(Refusal(self.pass_.name, "the time limit was reached before it", "raise --time-limit"))

    def measure(self, model: Model) -> None:
        """Take the size of the model after a change: exactly where the pass may have changed shapes."""
        if self.size is None:
            lossless = self.transaction is None
            self.shapes = known_shapes(model, self.shapes) if lossless else concrete_shapes(model)
            self.size = model_size(model, self.shapes)

    def restart(self) -> None:
        """Forget what it changed: the passes run again, without one that broke."""
        self.changes, self.size = 0, None

    def record(self, before: ModelSize) -> PassRecord:
        """The finished record.

        Args:
            before: the model before it, which is how a pass that changed nothing left it.
        """
        size = None if self.status == "refused" else self.size or before
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
            **({} if size is None else asdict(size)),
            transaction=self.transaction,
        )
