"""Work in a copy of this process: what it returns, raises, and how its end is told."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial

import pytest

from graphpress.deadline import OutOfTimeError
from graphpress.errors import ModelError, ResourceError
from graphpress.forked import CrashError, ForkedCall, in_a_fork


def raises() -> None:
    raise ModelError("is bad", where="node a", fix="mend it")


def test_what_work_returns_comes_back():
    assert in_a_fork(os.getpid) != os.getpid()


def test_work_in_a_copy_may_have_its_own():
    assert in_a_fork(partial(in_a_fork, os.getpid)) != os.getpid()


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


@pytest.mark.parametrize("kind", [OutOfTimeError, CrashError])
def test_what_a_copy_of_the_copy_suffered_arrives_as_it_is(kind):
    def work() -> None:
        raise kind

    with pytest.raises(kind):
        in_a_fork(work)


def test_an_answer_that_cannot_be_sent_is_told_and_the_copy_goes_on():
    with ForkedCall[bool, object](lambda odd: threading.Lock() if odd else 7) as call:
        with pytest.raises(RuntimeError, match="pickle"):
            call(True)
        assert call(False) == 7


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="the system has no real-time signals")
def test_signals_without_a_name_are_told_by_number():
    number = int(signal.SIGRTMIN) + 3
    with pytest.raises(CrashError, match=f"signal {number}"):
        in_a_fork(lambda: os.kill(os.getpid(), number))


def test_a_crash_is_told():
    with pytest.raises(CrashError, match="died of SIGABRT"):
        in_a_fork(os.abort)


def test_being_killed_is_a_lack_of_memory():
    with pytest.raises(ResourceError, match="memory"):
        in_a_fork(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_leaving_is_a_crash():
    with pytest.raises(CrashError, match="ended with code 3"):
        in_a_fork(partial(os._exit, 3))


def test_calls_go_to_one_copy():
    seen = []
    with ForkedCall(lambda number: (os.getpid(), seen.append(number), list(seen))) as call:
        (first, _, _), (second, _, both) = call(1), call(2)
    assert first == second != os.getpid()
    assert both == [1, 2]
    assert seen == []


def test_a_call_that_crashes_is_told_and_so_is_the_next():
    with ForkedCall(lambda number: os.abort() if number else number) as call:
        assert call(0) == 0
        for _ in range(2):
            with pytest.raises(CrashError, match="died of SIGABRT"):
                call(1)


def test_what_is_not_done_in_time_is_given_up():
    with pytest.raises(OutOfTimeError):
        in_a_fork(partial(time.sleep, 60), end=time.monotonic() + 0.05)


def test_a_copy_makes_copies():
    assert in_a_fork(lambda: in_a_fork(os.getpid)) != os.getpid()
