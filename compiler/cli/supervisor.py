"""A command in a child process, so that native code that crashes ends in a message and an exit code.

A model from elsewhere can make ONNX Runtime, or any other native library, abort or touch memory that is not its own;
Python cannot catch that. So the command line forks before it imports anything: the child does the work, and this
process waits, hands on the signals that it gets, and tells how the child died. The child writes each stage of its work
(``graphpress.progress.doing``) into a page of memory that both share, so the message can name it, and into another one
where it works aside, so what it left there can be removed. What native code prints is held back until the end, and not
shown when it crashed, unless ``--debug`` asks for it.

Where there is no fork, the command runs in this process.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

from graphpress.child_process import die_with

CRASHES = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP", "SIGKILL")
"""How a process dies of itself; SIGKILL is what the kernel sends when memory runs out."""

HANDED_ON = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGTSTP")
"""Signals that are meant for the work, and so for the child."""

SHOW_CURSOR = "\r\x1b[K\x1b[?25h"
"""What a progress bar would have done at its end, beside vanishing."""

PAGE_BYTES = 4096
SAME_INTERRUPT_SECONDS = 0.5
ANSWERED = "\0answered"
"""In the place of a stage: the command came to its end, and its exit code is its own."""

Command = Callable[[Sequence[str]], int]


def supervise(command: Command, words: Sequence[str]) -> int:
    """Run a command in a child process.

    Args:
        command: takes the words, and returns the exit code.
        words: of the command line, without the program's name.

    Returns:
        The exit code, in this process; a crash has been told by then.

    Raises:
        SystemExit: in the child, with the exit code.
    """
    if not hasattr(os, "fork"):
        return command(words)
    stage, place = (mmap.mmap(-1, PAGE_BYTES) for _ in range(2))
    noise = None if "--debug" in words else _new_noise()
    _flush()
    parent = os.getpid()
    with _signals_held():
        child = os.fork()
        if child == 0:
            _begin_child(parent, stage, place, noise)
        else:
            _hand_on_signals(child)
    if child == 0:
        code = command(words)
        _write(stage, ANSWERED)
        sys.exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    doing = _text_in(stage)
    if doing == ANSWERED:
        _show(noise)
        return code
    _put_right(_text_in(place))
    return _died_of(signal.Signals(-code), doing, words) if code < 0 else _left(code, doing, noise, words)


# -- in the child ---------------------------------------------------------------------------------------------


def _begin_child(parent: int, stage: mmap.mmap, place: mmap.mmap, noise: int | None) -> None:
    from graphpress.progress import PLACE_WRITER, STAGE_WRITER

    die_with(parent)
    STAGE_WRITER.set(partial(_write, stage))
    PLACE_WRITER.set(partial(_write, place))
    if noise is not None:
        _hold_back(noise)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Interrupt())


def _write(page: mmap.mmap, text: str) -> None:
    page[:] = text.encode("utf-8", "surrogatepass")[:PAGE_BYTES].ljust(PAGE_BYTES, b"\0")


def _hold_back(noise: int) -> None:
    """Native code, which knows stderr by its number, writes elsewhere from now on; Python writes where it wrote."""
    stream = sys.stderr
    direct = os.dup(stream.fileno())
    sys.stderr = open(direct, "w", buffering=1, encoding=stream.encoding, errors=stream.errors)  # noqa: SIM115
    os.dup2(noise, stream.fileno())


class _Interrupt:
    """Takes Ctrl-C, which a terminal sends to parent and child, and which the parent hands on, for one interrupt."""

    def __init__(self) -> None:
        self._last = -SAME_INTERRUPT_SECONDS

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last >= SAME_INTERRUPT_SECONDS:
            self._last = now
            raise KeyboardInterrupt


# -- in the parent --------------------------------------------------------------------------------------------


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait until both processes are ready for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _present(HANDED_ON))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hand_on_signals(child: int) -> None:
    def hand_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)
        if number == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)  # the shell waits for this process to stop, too

    for number in _present(HANDED_ON):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hand_on)


def _died_of(number: signal.Signals, stage: str, words: Sequence[str]) -> int:
    if number not in _present(CRASHES):  # it was meant to end, and ends in the eyes of the shell as it did
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(SHOW_CURSOR)
    from graphpress.cli.failure import Failure, report
    from graphpress.errors import MEMORY_FIX, NO_MEMORY, ModelError, ResourceError

    when = f" while {stage}" if stage else ""
    if number == signal.SIGKILL:
        what, code, fix = f"it was killed{when}, most likely because {NO_MEMORY}", ResourceError.exit_code, MEMORY_FIX
    else:
        what, code = f"a native library crashed ({number.name}){when}", ModelError.exit_code  # it nearly always is that
        fix = "run again with --debug to see what it said; if the model is sound, report it to the library's authors"
    return report(Failure(what, code, fix=fix), words)


def _left(code: int, stage: str, noise: int | None, words: Sequence[str]) -> int:
    """Tell that something ended the process without a word to Python: as OpenBLAS does where memory runs out."""
    from graphpress.cli.failure import Failure, report
    from graphpress.errors import ModelError, resource_fault

    said = _text_of(noise)
    when = f" while {stage}" if stage else ""
    what = f"a native library, or code that the command runs, ended the process (exit code {code}){when}"
    if fault := resource_fault(RuntimeError(said)):
        return report(Failure(f"{fault.what}: {what}", fault.exit_code, fix=fault.fix), words)
    return report(Failure(what, ModelError.exit_code, fix="run again with --debug to see what it said"), words)


def _text_in(page: mmap.mmap) -> str:
    """What the child wrote last; a character may have been cut in two."""
    text = page[:].rstrip(b"\0")
    return text.decode("utf-8", "surrogatepass" if len(text) < PAGE_BYTES else "replace")


def _put_right(place: str) -> None:
    """Remove what the child left in the temporary folder, and in the place where its output was to go."""
    from pathlib import Path

    from graphpress.scratch import reclaim

    reclaim()
    if place:
        from graphpress.driver.output import put_right

        put_right(Path(place))


# -- both -----------------------------------------------------------------------------------------------------


def _present(names: Sequence[str]) -> list[signal.Signals]:
    """The signals of these names that the system has."""
    return [signal.Signals[name] for name in names if hasattr(signal, name)]


def _new_noise() -> int | None:
    """A file in memory for what native code prints; None where there is no such thing or no stderr."""
    if sys.stderr is None or not hasattr(os, "memfd_create"):
        return None
    return os.memfd_create("stderr of native code")


def _show(noise: int | None) -> None:
    """Print what was held back."""
    if noise is None:
        return
    os.lseek(noise, 0, os.SEEK_SET)
    from graphpress.printable import printable

    with suppress(OSError), open(noise, encoding="utf-8", errors="backslashreplace", closefd=False) as lines:
        for line in lines:  # a closed stream is an OSError: nobody reads it any more
            os.write(2, f"{printable(line.rstrip())}\n".encode())


def _text_of(noise: int | None) -> str:
    """The beginning of what was held back."""
    return "" if noise is None else os.pread(noise, 1 << 16, 0).decode("utf-8", "replace")


def _flush() -> None:
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
