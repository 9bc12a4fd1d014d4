"""The state of a training on disk: written aside and renamed, so that a kill at any moment leaves a whole one.

What is read back is tensors, numbers, text and lists of these; nothing is unpickled that could run code. A state that
cannot be written costs nothing but itself: the training goes on without.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from graphpress.cache import without_cache
from graphpress.errors import reraise_resource_fault
from graphpress.scratch import scratch_beside

VERSION = 2


@dataclass
class Store:
    """One file that holds the latest state.

    Args:
        file: where it lies.
        seconds: a new state is due this long after the last one.
        fault: why no state is kept any more, in a sentence; empty while all is well.
    """

    file: Path
    seconds: float = 30.0
    fault: str = ""
    _last: float = field(default_factory=time.monotonic, repr=False)

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return not self.fault and time.monotonic() - self._last >= self.seconds

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state, or give up keeping one."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with scratch_beside(self.file) as folder:
                aside = folder / self.file.name
                with aside.open("wb") as stream:
                    torch.save({"version": VERSION, **state}, stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                aside.replace(self.file)
        except (OSError, RuntimeError) as error:  # torch makes the latter of what its stream reports
            self.fault = without_cache(self.file.parent, error)
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state, or None where there is none that can be read."""
        try:
            state: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.fault = without_cache(self.file.parent, error)
            return None
        except Exception as error:  # torch names no class for what a damaged file may raise
            reraise_resource_fault(error)
            return None
        return state if state.get("version") == VERSION else None

    def discard(self) -> None:
        """The training is over; the folder goes with its last state."""
        with suppress(OSError):
            self.file.unlink(missing_ok=True)
            self.file.parent.rmdir()
