"""Calls into a pass, which may break.

What a lossy pass says about the caller's data or options is the caller's to correct, and a fault of the machine is
no fault of the pass: both end the run. Any other exception is a bug of the pass: its record names it, and the rest of
the pipeline goes on without it, unless the run is strict.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from numbers import Integral
from typing import NamedTuple, TypeVar

from graphpress.deadline import OutOfTimeError
from graphpress.errors import (
    TERMINATED,
    BackendError,
    DataError,
    GraphpressError,
    ModelError,
    PassError,
    UsageError,
    message_of,
    reraise_resource_fault,
)
from graphpress.ir import Model, Refusal, verify
from graphpress.ir.verify import InvalidGraphError
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.manager.pass_run import PassRun
from graphpress.manager.verification import Probe
from graphpress.progress import doing

T = TypeVar("T")

LOGGER = logging.getLogger("graphpress")


class Fault(NamedTuple):
    """What is wrong with a model that a pass left.

    Args:
        what: in words.
        structural: it breaks the rules of ONNX: a bug of the pass for certain, which other numbers may not be.
    """

    what: str
    structural: bool


def attempt(call: Callable[[], T], pass_run: PassRun, *, strict: bool) -> T | None:
    """The result of a call into a pass; None, and the failure in its record, where it broke.

    Raises:
        PassError: it broke, and the run is strict.
        GraphpressError: the caller's data or options, or the machine.
    """
    try:
        return call()
    except BaseException as error:  # a pass that calls sys.exit has not delivered anything either
        if isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code == TERMINATED):
            raise
        if isinstance(error, OutOfTimeError):
            raise
        if not pass_run.pass_.lossless and isinstance(error, (DataError, UsageError, BackendError)):
            raise
        reraise_resource_fault(error)
        LOGGER.debug("the pass %s failed", pass_run.pass_.name, exc_info=True)
        pass_run.fail(_words(error))
        if strict:
            raise _failed(pass_run.pass_, pass_run.failure) from error
        return None


def run_pass(pass_: Pass, model: Model, context: Context) -> Outcome:
    """Run the pass on the model, in place.

    Raises:
        TypeError: it returns something else than an outcome.
        ValueError: it counts less than no changes.
    """
    with doing(f"running the pass {pass_.name}"):
        outcome = pass_.run(model, context)
    _check_kind(outcome, Outcome, "its outcome is")
    _check_kind(outcome.changes, Integral, "its count of changes is")
    for refusal in outcome.refusals:
        _check_kind(refusal, Refusal, "one of its refusals is")
    for note in outcome.notes:
        _check_kind(note, str, "one of its notes is")
    if outcome.changes < 0:
        raise ValueError(f"it counts {outcome.changes} changes")
    return outcome


def refusal_of(pass_: Pass, model: Model, context: Context) -> Refusal | None:
    """Why the pass does not run on the model; None where it does.

    Raises:
        TypeError: it returns something else.
    """
    refusal = pass_.refuse(model, context)
    if refusal is not None:
        _check_kind(refusal, Refusal, "its refusal is")
    return refusal


def _check_kind(item: object, kind: type, what: str) -> None:
    if not isinstance(item, kind):
        raise TypeError(f"{what} of type {type(item).__name__}, not {kind.__name__}")


def check_pass(pass_: Pass, context: Context) -> None:
    """Let the pass check what it needs, before anything runs.

    Raises:
        PassError: the check itself breaks.
        GraphpressError: what the pass finds fault with.
    """
    try:
        pass_.check(context)
    except GraphpressError:
        raise
    except Exception as error:
        reraise_resource_fault(error)
        raise _failed(pass_, _words(error)) from error


def fault_of(model: Model, probe: Probe | None) -> Fault | None:
    """What is structurally wrong with the model, or numerically against the probe, or None."""
    try:
        verify(model)
        with doing("running the model as the lossless passes leave it"):
            difference = None if probe is None else probe.difference(model)
    except (InvalidGraphError, ModelError) as error:
        return Fault(error.what, structural=True)
    except Exception as error:  # a pass may leave anything at all in a graph
        reraise_resource_fault(error)
        return Fault(_words(error), structural=True)
    return None if difference is None else Fault(difference, structural=False)


def blame(pass_run: PassRun, fault: Fault, *, strict: bool) -> None:
    """Record the fault in the model that a pass left.

    Raises:
        PassError: it is a bug, and the run is strict.
    """
    if not fault.structural:
        pass_run.note(f"dropped: {fault.what}")
        return
    pass_run.fail(f"its result is no valid model: {fault.what}")
    if strict:
        raise _failed(pass_run.pass_, pass_run.failure)


def _words(error: BaseException) -> str:
    """The exception on one line."""
    return " ".join(f"{type(error).__name__}: {message_of(error)}".split()).removesuffix(":")


def _failed(pass_: Pass, failure: str) -> PassError:
    return PassError(
        f"the pass failed ({failure})",
        where=pass_.name,
        fix="report it to whoever wrote the pass (--debug shows the traceback), or leave the pass out",
    )
