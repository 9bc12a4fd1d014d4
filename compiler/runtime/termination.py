"""Runs of ONNX Runtime that come to an end: between two nodes, or two rounds of a loop, it looks whether it shall."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def run_options() -> Any:
    """Options of one run, whose flag ``terminate`` ends it."""
    import onnxruntime

    return onnxruntime.RunOptions()


@contextmanager
def terminated_after(seconds: float | None, options: Any) -> Iterator[None]:
    """Have the run with these options, in the block, end after so many seconds; None for whenever it likes."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
