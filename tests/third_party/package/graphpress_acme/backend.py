"""A device that reads plain ONNX: it runs nothing here, and writes a note beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphpress import Availability, Backend, BackendError, CompileOptions, Findings, Model, Prepared, Target, save


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

    def prepare(self, annotated: Model, target: Target) -> Prepared:
        """It reads no encodings: the model itself is what is delivered, and what ONNX Runtime runs in its stead."""
        return Prepared(annotated, delivered=annotated, simulation=annotated)

    def compile(self, prepared: Prepared, options: CompileOptions, out: Path) -> AcmeArtifact:
        """Write model and note."""
        note = out / "acme.txt"
        note.write_text(f"{options.target.name}, {options.threads} threads\n", encoding="utf-8")
        return AcmeArtifact([*save(prepared.delivered, out / "model.onnx"), note])
