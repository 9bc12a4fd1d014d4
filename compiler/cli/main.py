"""The entry point. It imports next to nothing: interrupts must be heeded while the rest is being imported, too."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from graphpress.cli.supervisor import supervise
from graphpress.printable import printable

BUG = 1
NO_RESOURCES = 6
INTERRUPTED = 130
TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after the program's name, to run in this process; None for the program itself, which runs
            the words of the process in a child of its own.

    Returns:
        The exit code. Errors are printed, never raised.
    """
    return supervise(_run, sys.argv[1:]) if arguments is None else _run(arguments)


def _run(words: Sequence[str]) -> int:
    try:
        with _heeding_termination():
            from graphpress.cli.program import run

            return run(words)
    except KeyboardInterrupt as stop:
        return _stopped("interrupted", INTERRUPTED, words, stop)
    except SystemExit as stop:
        if stop.code == TERMINATED:
            return _stopped("terminated", TERMINATED, words, stop)
        return stop.code if isinstance(stop.code, int) else BUG
    except Exception as error:  # the program reports what it meets: it could not even be imported
        return _not_started(error, words)


def _not_started(error: Exception, words: Sequence[str]) -> int:
    try:
        from graphpress.cli.failure import explain, report
    except (OSError, MemoryError, ImportError):  # no file may be opened, or memory is full
        print(printable(f"error: the program cannot be loaded: {error}"), file=sys.stderr)
        return NO_RESOURCES
    return report(explain(error), words)


def _stopped(word: str, code: int, words: Sequence[str], stop: BaseException) -> int:
    """Tell that there is no result, and what was kept: whoever kept something has noted it on the exception."""
    from graphpress.cli.failure import Failure, report

    kept = getattr(stop, "__notes__", [])
    return report(Failure("; ".join([f"{word}; nothing was written", *kept]), code), words)


@contextmanager
def _heeding_termination() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that scratch folders are removed; only a main thread may set signal handlers."""
    try:
        before = signal.signal(signal.SIGTERM, _terminate)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the tidying short
    sys.exit(TERMINATED)
