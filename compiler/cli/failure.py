"""What went wrong, in words: one message and one exit code for everything that can."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from graphpress.cli.text import echo_json, joined, say, styled
from graphpress.errors import GraphpressError, did_you_mean, resource_fault

PROGRAM = "optimize"
BUG = 1
USAGE = 2


@dataclass(frozen=True)
class Failure:
    """What went wrong, for a person or, with ``--json``, for a program."""

    what: str
    exit_code: int
    where: str = ""
    fix: str = ""


def explain(error: Exception) -> Failure:
    """The failure that an exception amounts to."""
    error = resource_fault(error) or error
    if isinstance(error, GraphpressError):
        return Failure(error.what, error.exit_code, error.where, error.fix)
    if isinstance(error, click.ClickException):
        return _wrong_usage(error)
    if isinstance(error, OSError) and error.filename:
        return Failure(error.strerror or str(error), USAGE, str(error.filename), "check the path")
    text = (str(error).strip() or "no message").splitlines()[0]
    return Failure(
        f"unexpected {type(error).__name__}: {text}",
        BUG,
        fix="this is a bug of graphpress: run again with --debug and report the traceback",
    )


def report(failure: Failure, words: Sequence[str]) -> int:
    """Tell the failure, as JSON where the words of the command line ask for it.

    Returns:
        Its exit code.
    """
    try:
        _tell(failure, words)
    except OSError:  # the very stream is full or closed
        _silence()
    return failure.exit_code


def _wrong_usage(error: click.ClickException) -> Failure:
    if isinstance(error, click.NoSuchOption):
        return Failure(error.message, USAGE, fix=_nearest_option(error))
    if error.message.startswith("Got unexpected extra argument") and "=" in error.message:
        # a shell makes two words of braces with a comma in them
        return Failure(error.format_message(), USAGE, fix="put it in quotes: 'NAME{option=choice,…}'")
    expected = _expected(error.param.type) if isinstance(error, click.BadParameter) and error.param else ""
    return Failure(error.format_message(), USAGE, fix=expected or f"see `{PROGRAM} --help`")


def _expected(kind: click.ParamType[Any]) -> str:
    """What an option of this type takes; empty where its own message says so."""
    if isinstance(kind, click.IntRange):
        return f"give a whole number, {kind.min} or more"
    if isinstance(kind, click.FloatRange):
        return f"give a number from {kind.min:g} to {kind.max:g}"
    if isinstance(kind, click.Choice):
        return f"choose one of: {', '.join(kind.choices)}"
    return ""


def _nearest_option(error: click.NoSuchOption) -> str:
    if error.ctx is None:
        return f"see `{PROGRAM} --help`"
    known = [name for param in error.ctx.command.get_params(error.ctx) for name in param.opts if name.startswith("--")]
    hint = did_you_mean(error.option_name, known)
    return hint if hint.startswith("did you mean") else f"see `{error.ctx.command_path} --help`"


def _tell(failure: Failure, words: Sequence[str]) -> None:
    if "--json" in words:
        error: dict[str, Any] = {"what": failure.what, "where": failure.where, "fix": failure.fix}
        echo_json({"error": error | {"exit_code": failure.exit_code}})
        return
    place = f"{failure.where}: " if failure.where else ""
    say(joined([styled("error:", fg="red", bold=True), place + failure.what], " "), err=True)
    if failure.fix:
        say(joined([styled("fix:", bold=True), failure.fix], " "), err=True)


def _silence() -> None:
    """Send what is left in the buffers nowhere, so that the interpreter does not stumble over it at its end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
