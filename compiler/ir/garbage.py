"""Building many small objects without Python's search for cycles among them, which takes longer than the building."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collection() -> Iterator[None]:
    """Let no cyclic garbage be looked for meanwhile: for work that makes or edits a graph and leaves little of it.

    Nodes and values refer to each other, so every one that is made counts as a possible leak, and a large model is
    searched from end to end again and again while it grows. What is not in a cycle is freed at once all the same.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
