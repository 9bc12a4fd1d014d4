"""Never worse: the artifact against the input model, interleaved and paired, before anything is delivered."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.manager.records import SpeedVerdict
from graphpress.runtime import PairedTiming

SLOWER = SpeedVerdict.slower_above
"""Slower means that even the lower confidence bound of the time ratio lies above this."""


@dataclass(frozen=True)
class Comparison:
    """A candidate against the input model.

    Args:
        timing: paired latency, input model first; None where it could not be measured.
        bytes_before: size of the input model with its external data.
        bytes_after: size of the candidate.
    """

    timing: PairedTiming | None
    bytes_before: int
    bytes_after: int

    @property
    def slower(self) -> bool:
        """Surely slower."""
        return self.timing is not None and self.timing.low > SLOWER

    @property
    def faster(self) -> bool:
        """Surely faster."""
        return self.timing is not None and self.timing.high < 1.0

    @property
    def worse(self) -> str:
        """Why the candidate is worse than the input model, in words; empty when it is not. Size counts only when it
        buys no speed.
        """
        if self.slower and self.timing is not None:
            return f"{self.timing.ratio:.2f} times as slow (at least {self.timing.low:.2f})"
        if self.bytes_after > self.bytes_before and not self.faster:
            return f"larger ({self.bytes_after} bytes against {self.bytes_before}) and not faster"
        return ""
