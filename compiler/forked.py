"""Work in a copy of this process: native code that crashes there ends the copy, and the work, but not the run.

The copy knows everything that this process does, and starts in milliseconds. Arguments and answers go through a pipe.
What it writes into memory is lost; files are not. Where there is no fork, the work is done in this process.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from graphpress.child_process import die_with
from graphpress.deadline import OutOfTimeError
from graphpress.errors import GraphpressError, ResourceError, message_of, resource_fault

A = TypeVar("A")
T = TypeVar("T")


class CrashError(Exception):
    """The copy of the process died. ``str`` says how."""


class ForkedCall(Generic[A, T]):
    """A function that is called in a copy of this process, one and the same for all calls; close it, or use ``with``.

    Args:
        function: arguments and answers have to be picklable.
        end: moment (``time.monotonic``) at which a call that is not done is given up, and the copy ended.
    """

    def __init__(self, function: Callable[[A], T], end: float = float("inf")) -> None:
        self._function, self._end = function, end
        self._can_fork = "fork" in get_all_start_methods()
        if self._can_fork:
            context = get_context("fork")
            self._pipe, theirs = context.Pipe()
            # No daemon: what it calls may fork, too.
            self._process = context.Process(target=_serve, args=(function, theirs, self._pipe, os.getpid()))
            self._process.start()
            theirs.close()

    def __call__(self, argument: A) -> T:
        """Call it there.

        Raises:
            CrashError: native code ended the copy.
            OutOfTimeError: the moment has come.
            ResourceError: the machine lacks something, or the system ended the copy for memory.
            GraphpressError: the function raises it.
            RuntimeError: the function raises something else, of which this is the message.
        """
        if not self._can_fork:
            return self._function(argument)
        try:
            self._pipe.send(argument)
            if not self._pipe.poll(self._seconds_left()):
                self.close()
                raise OutOfTimeError
            result, error = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            raise _death(self._process.exitcode or 0) from None
        if error is not None:
            raise error
        answer: T = result
        return answer

    def close(self) -> None:
        """End the copy, whatever it does."""
        if self._can_fork:
            self._process.kill()
            self._process.join()
            self._pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _seconds_left(self) -> float | None:
        return None if self._end == float("inf") else max(0.0, self._end - time.monotonic())


def in_a_fork(work: Callable[[], T], end: float = float("inf")) -> T:
    """Do work once, in a copy of this process.

    Args:
        work: what it returns has to be picklable.
        end: moment (``time.monotonic``) at which it is given up.

    Raises:
        CrashError, OutOfTimeError, ResourceError, GraphpressError, RuntimeError: as for a ``ForkedCall``.
    """
    with ForkedCall[None, T](lambda _: work(), end) as call:
        return call(None)


def _serve(function: Callable[[Any], Any], pipe: Connection, theirs: Connection, parent: int) -> None:
    """In the copy; the one that a terminal's Ctrl-C is meant for is the parent."""
    theirs.close()
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            argument = pipe.recv()
        except EOFError:
            return
        answer = _answer(function, argument)
        try:
            pipe.send(answer)
        except Exception as error:  # what cannot be pickled is no answer
            pipe.send((None, RuntimeError(message_of(error) or type(error).__name__)))


def _answer(function: Callable[[A], T], argument: A) -> tuple[T | None, Exception | None]:
    try:
        return function(argument), None
    except (GraphpressError, OutOfTimeError, CrashError) as error:
        return None, error
    except Exception as error:  # of any library: it may be none that can be pickled
        return None, resource_fault(error) or RuntimeError(message_of(error) or type(error).__name__)


def _death(code: int) -> Exception:
    if code == -signal.SIGKILL:
        return ResourceError("was killed, most likely for memory", where="a child process", fix="free memory")
    names = {kind.value: kind.name for kind in signal.Signals}
    return CrashError(f"died of {names.get(-code, f'signal {-code}')}" if code < 0 else f"ended with code {code}")
