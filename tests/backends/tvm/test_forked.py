"""Work in a copy of this process: what it returns, raises, and how its end is told."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from graphpress.backends.tvm.forked import CrashError, in_a_fork
from graphpress.errors import ModelError, ResourceError


def raises() -> None:
    raise ModelError("is bad", where="node a", fix="mend it")


def test_what_work_returns_comes_back():
    assert in_a_fork(os.getpid) != os.getpid()


def test_what_work_raises_is_raised():
    with pytest.raises(ModelError, match="node a: is bad") as error:
        in_a_fork(raises)
    assert error.value.fix == "mend it"


class UnpicklableError(Exception):
    """As native libraries raise."""

    def __reduce__(self):
        raise TypeError


def test_what_others_raise_is_told():
    def work() -> None:
        raise UnpicklableError("it is odd")

    with pytest.raises(RuntimeError, match="it is odd"):
        in_a_fork(work)


def test_a_crash_is_told():
    with pytest.raises(CrashError, match="died of SIGABRT"):
        in_a_fork(os.abort)


def test_being_killed_is_a_lack_of_memory():
    with pytest.raises(ResourceError, match="memory"):
        in_a_fork(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_leaving_is_a_crash():
    with pytest.raises(CrashError, match="ended with code 3"):
        in_a_fork(partial(os._exit, 3))
