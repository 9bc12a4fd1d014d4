"""Who runs a compiled model and times it: this process, an emulator, or a device somewhere else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from graphpress.runtime.measure import call_times

Infer = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""Anything that maps a feed to outputs by name."""


class Runner(Protocol):
    """Runs one compiled model in one place."""

    @property
    def place(self) -> str:
        """Where that is, for the report: ``this process``, ``board 7``, ``qemu-aarch64``."""
        ...

    def run(self, feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run once.

        Raises:
            BackendError: the place cannot be reached, or fails.
        """
        ...

    def measure(self, feeds: Sequence[Mapping[str, np.ndarray]], *, seconds: float) -> Sequence[float]:
        """Times of single calls in seconds, by a clock of the place: the way there and back does not count. None at all
        where that clock says nothing of the device, as in an emulator.

        Args:
            feeds: taken in turn.
            seconds: about how long to go on, after a warm-up.

        Raises:
            BackendError: the place cannot be reached, or fails.
        """
        ...


@dataclass(frozen=True)
class InProcess:
    """Runs in this process, beside the reference, so that the two can be timed in turn.

    Args:
        infer: one call.
        stand_by: gives the model's memory back until the next call, where it can.
        renew: lets the next call load the model anew, where it can.
    """

    infer: Infer
    stand_by: Callable[[], None] = lambda: None
    renew: Callable[[], None] = lambda: None

    @property
    def place(self) -> str:
        """Here."""
        return "this process"

    def run(self, feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run once."""
        return self.infer(feed)

    def measure(self, feeds: Sequence[Mapping[str, np.ndarray]], *, seconds: float) -> list[float]:
        """Times of single calls in seconds."""
        turns = itertools.cycle(feeds)
        return call_times(lambda: self.infer(next(turns)), seconds=seconds)
