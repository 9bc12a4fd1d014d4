"""Work in a copy of this process: native code that crashes there ends the copy, and the work, but not the run.

The copy knows everything that this process does, and starts in milliseconds. It hands back what the work returns, or
raises, through a pipe. What it writes into memory is lost; files are not. Where there is no fork, the work is done in
this process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from typing import TypeVar

from graphpress.child_process import die_with
from graphpress.errors import GraphpressError, ResourceError, message_of, resource_fault

T = TypeVar("T")


class CrashError(Exception):
    """The copy of the process died. ``str`` says how."""


def in_a_fork(work: Callable[[], T]) -> T:
    """Do work in a copy of this process.

    Args:
        work: what it returns has to be picklable.

    Raises:
        CrashError: native code ended the copy.
        ResourceError: the machine lacks something, or the system ended the copy for memory.
        GraphpressError: the work raises it.
        RuntimeError: the work raises something else, of which this is the message.
    """
    if "fork" not in get_all_start_methods():
        return work()
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(work, sender, os.getpid()), daemon=True)
    process.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError:
        process.join()
        raise _death(process.exitcode or 0) from None
    finally:
        process.kill()  # where it is done already, or this process is interrupted
        process.join()
        receiver.close()
    if error is not None:
        raise error
    answer: T = result
    return answer


def _work(work: Callable[[], T], sender: Connection, parent: int) -> None:
    """In the copy; the one that a terminal's Ctrl-C is meant for is the parent."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        answer = (work(), None)
    except GraphpressError as error:
        sender.send((None, error))
    except Exception as error:  # of any library: it may be none that can be pickled
        said = message_of(error) or type(error).__name__
        sender.send((None, resource_fault(error) or RuntimeError(said)))
    else:
        sender.send(answer)


def _death(code: int) -> Exception:
    if code == -signal.SIGKILL:
        return ResourceError("was killed, most likely for memory", where="a child process", fix="free memory")
    return CrashError(f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}")
