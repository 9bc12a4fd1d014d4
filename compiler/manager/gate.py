"""Never worse: the artifact against the input model, interleaved and paired, before anything is delivered."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.manager.records import SpeedVerdict
from graphpress.runtime import PairedTiming

SLOWER = SpeedVerdict.slower_above
"""Slower means that even the lower confidence bound of the time ratio lies above this."""


def speed_verdict(timing: PairedTiming) -> SpeedVerdict:
    """A timing as the report has it."""
    return SpeedVerdict(ratio=timing.ratio, low=timing.low, high=timing.high, rounds=timing.rounds, pairs=timing.pairs)


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
    def is_settled(self) -> bool:
        """Whether more timing cannot change what is kept: it is not even likely to be worse, or surely faster."""
        if self.timing is None or self.faster:
            return True
        return self.timing.ratio <= (SLOWER if self.bytes_after <= self.bytes_before else 0)

    @property
    def slowness(self) -> str:
        """How much slower it surely is, in words; empty when it is not."""
        if self.timing is None or not self.slower:
            return ""
        return f"{self.timing.ratio:.2f} times as slow (at least {self.timing.low:.2f})"

    @property
    def worse(self) -> str:
        """Why the candidate is worse than the input model, in words; empty when it is not. Size counts only when it
        buys no speed.
        """
        if self.slower:
            return self.slowness
        if self.bytes_after > self.bytes_before and not self.faster:
            return f"larger ({self.bytes_after} bytes against {self.bytes_before}) and not faster"
        return ""
