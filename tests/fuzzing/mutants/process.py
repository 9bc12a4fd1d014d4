"""Calls in forked processes that may die, hang or eat memory: what is left of them is how they ended.

The process that forks has imported everything and has never made a session of ONNX Runtime, whose threads no fork
survives; a child starts in milliseconds.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEMORY_BYTES = 6 << 30
"""Of address space, most of it libraries."""
FILE_BYTES = 1 << 30
OWN_NAMES = ("said", "tmp", "home")
"""What a process is given in its folder: a file for what it says, a temporary and a home folder."""
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        code: its exit code; a negative number is the signal that ended it.
        timed_out: it was ended because it did not end.
        said: what it wrote to its standard output and error.
    """

    code: int
    timed_out: bool
    said: str


def run_forked(call: Callable[[], int], folder: Path, *, seconds: float) -> Ended:
    """Call it in a forked process in this folder, with ``OWN_NAMES`` in it; what it returns is the exit code."""
    pid = os.fork()
    if not pid:
        _become(call, folder)
    status = _wait(pid, seconds)
    timed_out = status is None
    if timed_out:
        _end(pid)
        _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status or 0)
    return Ended(code, timed_out, (folder / "said").read_text(encoding="utf-8", errors="backslashreplace"))


def answer_of(call: Callable[[], Any], folder: Path, *, seconds: float) -> tuple[Ended, Any]:
    """What the call returns in a forked process of its own; None where it does not return."""
    answer = folder / "answer"

    def write() -> int:
        answer.write_bytes(pickle.dumps(call()))
        return 0

    ended = run_forked(write, folder, seconds=seconds)
    returned = ended.code == 0 and answer.exists()
    return ended, pickle.loads(answer.read_bytes()) if returned else None


def limit_resources() -> None:
    """Bound what this process and those that it starts may take."""
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _become(call: Callable[[], int], folder: Path) -> None:
    """The child's whole life."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        for name in ("tmp", "home"):
            (folder / name).mkdir(exist_ok=True)
        os.environ.update(TMPDIR=str(folder / "tmp"), HOME=str(folder / "home"), XDG_CACHE_HOME=str(folder / "home"))
        tempfile.tempdir = None
        stream = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        limit_resources()
        code = call()
    except SystemExit as stop:  # the command line ends its own child so
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, seconds: float) -> int | None:
    """The status of the child, or None when it is still there after so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(_POLL_SECONDS)
    return None


def _end(pid: int) -> None:
    """End the child and whatever it started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)
