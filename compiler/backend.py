"""What a backend is: it turns a finished graph into something a device runs.

Third parties provide one through the entry point group ``graphpress.backends``: any class with these methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from graphpress.ir import Model
from graphpress.targets import Target


@dataclass(frozen=True)
class Availability:
    """Whether a backend works here.

    Args:
        works: it does.
        detail: its version, or the reason why it does not.
        install: the command that would make it available; empty when it is.
    """

    works: bool
    detail: str
    install: str = ""


class Artifact(Protocol):
    """A compiled model."""

    @property
    def files(self) -> Sequence[Path]:
        """Everything that was written, the model first."""
        ...

    def run(self, feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run once on this machine; raises BackendError where that is impossible."""
        ...

    def arithmetic(self) -> Mapping[str, str]:
        """In which type each node really computes, by node name; nodes that are unknown are left out."""
        ...


class Backend(Protocol):
    """The seam between the compiler and a runtime."""

    def available(self) -> Availability:
        """Whether it works here, with the reason and the install command where not."""
        ...

    def legalise(self, model: Model, target: Target) -> Model:
        """A new model that spells the annotations in the words this backend understands; the input stays as it is."""
        ...

    def compile(self, model: Model, target: Target, out: Path, threads: int) -> Artifact:
        """Write the legalised model (``out/model.onnx``) and what the backend makes of it into the folder ``out``."""
        ...
