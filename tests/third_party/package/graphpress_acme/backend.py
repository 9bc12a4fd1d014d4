"""A device that reads plain ONNX: it runs nothing here, and writes a note beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphpress import Availability, Backend, BackendError, Commission, Findings, Model, Target, save


@dataclass(frozen=True)
class AcmeArtifact:
    """Files for the device."""

    files: list[Path]

    @property
    def bytes(self) -> int:
        """Size of the model, without the note."""
        return sum(file.stat().st_size for file in self.files[:-1])

    def run(self, feed: Mapping[str, Any]) -> Mapping[str, Any]:
        """Only the device can."""
        raise BackendError("runs on the device only", where="acme", fix="copy the folder to the device")

    def findings(self) -> Findings:
        """What the nodes become, only the device can tell."""
        return Findings(unverified=["how fast the device runs it"])


class AcmeBackend(Backend):
    """Takes the model as it is."""

    def available(self) -> Availability:
        """Always."""
        return Availability(True, "acme 1.0")

    def legalise(self, model: Model, target: Target) -> Model:
        """Nothing to spell in other words."""
        return model

    def compile(self, model: Model, commission: Commission, out: Path) -> AcmeArtifact:
        """Write model and note."""
        note = out / "acme.txt"
        note.write_text(f"{commission.target.name}, {commission.threads} threads\n", encoding="utf-8")
        return AcmeArtifact([*save(model, out / "model.onnx"), note])
