"""Python processes of our own: they import what this one does and nothing from the working directory, and die with it.

A child reads one line, its request, from its standard input. That stays open for as long as the parent lives: its end
is the portable sign that the parent is gone; on Linux the kernel says so, too.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where they are used: the command line is a child process before it imports much
    import subprocess

_BOOT = """
import importlib, sys
parent, module, *folders = sys.argv[1:]
sys.path += [folder for folder in folders if folder not in sys.path]
importlib.import_module("graphpress.child_process").die_with(int(parent))
sys.exit(importlib.import_module(module).main())
"""
_PR_SET_PDEATHSIG = 1


def run_module(module: str, request: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run the ``main`` of a module in a process of its own.

    Args:
        module: its name; what ``main`` returns is the exit code.
        request: one line, which the child reads with ``receive``.
        timeout: seconds after which it is killed; None for never.

    Raises:
        subprocess.TimeoutExpired: it was killed.
    """
    import subprocess

    with subprocess.Popen(
        [sys.executable, "-P", "-c", _BOOT, str(os.getpid()), module, *_folders()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        lifeline, process.stdin = process.stdin, None  # ``communicate`` would close it
        assert lifeline is not None
        try:
            with suppress(BrokenPipeError), lifeline:
                with suppress(BrokenPipeError):  # it may have died before it read
                    lifeline.write(request.encode() + b"\n")
                    lifeline.flush()
                output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    texts = (stream.decode("utf-8", "replace") for stream in (output, errors))
    return subprocess.CompletedProcess(process.args, process.returncode, *texts)


def receive() -> str:
    """In the child: the request; from now on the process ends when its parent does."""
    import threading

    request = sys.stdin.readline()
    threading.Thread(target=_end_with_input, daemon=True).start()
    return request


def die_with(parent: int) -> None:
    """In the child: let the kernel kill it when its parent dies, where the kernel can; at once if that has happened."""
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _folders() -> list[str]:
    """Where this process finds modules, but for the working directory: what lies there was not named."""
    here = os.path.realpath(os.curdir)
    return [entry for entry in sys.path if os.path.isabs(entry) and os.path.realpath(entry) != here]


def _end_with_input() -> None:
    while os.read(0, 1):  # unbuffered: a lock held by this thread would be in the way at the end of the interpreter
        pass
    os._exit(1)
