"""The pipelines that mutants go through, as words of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OUTPUT = "out"
DATA_FILE = "feeds.npz"

_WITH_DATA = ("--data", DATA_FILE, "--max-drop", "0.25")


@dataclass(frozen=True)
class Pipeline:
    """A call.

    Args:
        words: of the command line, beside the model, the output folder and what all have in common.
        lossless: the result must compute what the model does.
        elsewhere: the result is for another runtime; here it is run as it stands, without what this one would do to it.
    """

    words: tuple[str, ...]
    lossless: bool = False
    elsewhere: bool = False

    def command(self, model: str) -> list[str]:
        """All words of the call."""
        return [model, *self.words, "--output", OUTPUT, "--threads", "1", "--strict", "--allow-worse"]


PIPELINES: Mapping[str, Pipeline] = {
    "clean-up": Pipeline(("--recipe", "cleanup"), lossless=True),
    "fusion": Pipeline(("--passes", "cleanup,fuse"), lossless=True),
    "prune": Pipeline(("--passes", "cleanup,prune{ratio=0.3}", *_WITH_DATA)),
    "int8": Pipeline(("--recipe", "int8", *_WITH_DATA)),
    "jetson": Pipeline(("--target", "jetson", *_WITH_DATA), elsewhere=True),
}
