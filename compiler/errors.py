"""Errors a person can act on: what is wrong, where, and how to fix it.

Each class carries the exit code of the command line (0 done, 2 usage, 3 bad model or data,
4 budget not met, 5 backend unavailable). Anything else that escapes is a bug of ours.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ClassVar, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class GraphpressError(Exception):
    """Base of every error that is the caller's to fix.

    Args:
        what: what is wrong, one clause.
        where: the file, node, value or option concerned.
        fix: what to do about it.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"\n  fix: {self.fix}" if self.fix else ""
        return f"{place}{self.what}{remedy}"


class UsageError(GraphpressError):
    """An option, name or argument that cannot be used as given."""


class ModelError(GraphpressError):
    """The model file is missing, malformed, unsafe or cannot be run."""

    exit_code = 3


class DataError(GraphpressError):
    """The data file or what it points to cannot be used with this model."""

    exit_code = 3


class BackendError(GraphpressError):
    """The backend that was asked for is not available here."""

    exit_code = 5


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or lists all of them.

    >>> did_you_mean("quantise", ["prune", "quantize"])
    "did you mean 'quantize'?"
    """
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(choices)}"


def refuse_unknown_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """Let a call with a keyword that the function does not have raise a ``UsageError`` that names the nearest."""
    known = list(inspect.signature(function).parameters)

    @wraps(function)
    def checked(*arguments: P.args, **keywords: P.kwargs) -> T:
        for name in keywords:
            if name not in known:
                raise UsageError(f"unknown option {name!r}", where=function.__name__, fix=did_you_mean(name, known))
        return function(*arguments, **keywords)

    return checked
