"""Write a word into the model's metadata: the smallest pass there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress import Context, Model, Outcome, Pass


@dataclass(frozen=True)
class Stamp(Pass):
    """Lossless: no value depends on metadata.

    Args:
        word: what to write.
    """

    name: ClassVar[str] = "acme_stamp"

    word: str = "acme"

    def run(self, model: Model, context: Context) -> Outcome:
        """Write it, once."""
        if model.metadata_props.get("stamp") == self.word:
            return Outcome()
        model.metadata_props["stamp"] = self.word
        return Outcome(1)
