"""The record of a pass while its pipeline runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphpress.ir import Refusal
from graphpress.manager.contract import Pass
from graphpress.manager.recipe import options_of
from graphpress.report.records import PassRecord, PassStatus


@dataclass
class PassRun:
    """The record of a pass while it grows."""

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
    nodes: int | None = None

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

    def record(self) -> PassRecord:
        """The finished record."""
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
            nodes=self.nodes,
            transaction=self.transaction,
        )
