"""The state of a training on disk: written aside and renamed, so that a kill at any moment leaves a whole one.

What is read back is tensors, numbers, text and lists of these; nothing is unpickled that could run code.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

VERSION = 1


@dataclass
class Store:
    """One file that holds the latest state.

    Args:
        file: where it lies.
        seconds: a new state is due this long after the last one.
    """

    file: Path
    seconds: float = 30.0
    _last: float = field(default_factory=time.monotonic, repr=False)

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._last >= self.seconds

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        aside = self.file.with_suffix(f".{os.getpid()}.tmp")
        try:
            with aside.open("wb") as stream:
                torch.save({"version": VERSION, **state}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(self.file)
        finally:
            aside.unlink(missing_ok=True)
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state, or None where there is none that can be read."""
        try:
            state: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception:  # torch names no class for what a damaged file may raise
            return None
        return state if state.get("version") == VERSION else None

    def discard(self) -> None:
        """The training is over; the folder goes with its last state."""
        self.file.unlink(missing_ok=True)
        with suppress(OSError):
            self.file.parent.rmdir()
