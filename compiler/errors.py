"""Errors a person can act on: what is wrong, where, and how to fix it.

Each class carries the exit code of the command line (0 done, 2 usage, 3 bad model or data,
4 budget not met, 5 backend unavailable, 6 a fault of the machine). Anything else that escapes is a bug of ours.

A fault of the machine comes in many forms: an ``OSError``, a ``MemoryError``, what native libraries make of either,
and errors of ours that had one for a cause. ``resource_fault`` recognizes them all.
"""

from __future__ import annotations

import difflib
import errno
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import ClassVar, NamedTuple, ParamSpec, TypeVar

from graphpress.printable import printable

P = ParamSpec("P")
T = TypeVar("T")

MAX_LISTED = 3
"""Names that an error lists of many."""
MOST_WORDS = 60
"""Words that are listed all where none is near to the one that was given: more than there are passes or metrics."""


TERMINATED = 143
"""With this code a ``SystemExit`` is the end that SIGTERM asks for (128 + 15), which nobody holds up."""


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

    def __reduce__(self) -> tuple[Callable[..., GraphpressError], tuple[str]]:
        """Errors come from other processes, too: pickling knows no arguments by name."""
        return partial(type(self), where=self.where, fix=self.fix), (self.what,)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"\n  fix: {printable(self.fix)}" if self.fix else ""
        return f"{printable(place + self.what)}{remedy}"


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


class PassError(GraphpressError):
    """A pass broke, which is a bug of that pass, in a run that was to be strict about it."""

    exit_code = 1


class ResourceError(GraphpressError):
    """The machine lacks what the run needs: memory, space on a disk, files that may be open, a permission."""

    exit_code = 6


class _Resource(NamedTuple):
    """What a machine can lack.

    Args:
        fix: what to do about it.
        numbers: what the system calls it.
        words: what libraries call it that have no class for it, in lower case; beside the system's own words.
        what: what to call it; the words of the system without.
        where: in what it shows where the system names no file.
    """

    fix: str
    numbers: tuple[int, ...]
    words: tuple[str, ...] = ()
    what: str = ""
    where: str = ""


NO_MEMORY = "memory ran out"
MEMORY_FIX = "use a machine with more free memory, or ask for less: fewer samples (--eval-limit), a smaller batch"
_NUMBER = re.compile(r"(?:\berrno|\berrcode =|\bsystem error number|\bsystemerror :) *(\d{1,3})\b")
"""How libraries quote the number of a system error; "errno" also in "[Errno 28]", as Python does."""
_PERMISSION = _Resource("check its permissions, or choose another place", (errno.EACCES, errno.EPERM, errno.EROFS))
_MEMORY = _Resource(
        MEMORY_FIX,
        (errno.ENOMEM,),
        (
            "bad_alloc", "bad allocation", "failed to allocate", "unable to allocate", "can't allocate",
            "could not allocate", "tried to allocate", "out of memory", "not enough memory", "failed to map segment",
            "memory exhausted", "allocation still failed",
        ),
    NO_MEMORY,
)  # fmt: skip
_RESOURCES = (
    _MEMORY,
    _PERMISSION,
    _Resource(
        "free some space, or choose another place: --output, --cache-dir, TMPDIR",
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        ("no usable temporary directory", "protobuf serialization failed"),
        where="while writing",
    ),
    _Resource("allow more open files: ulimit -n 4096", (errno.EMFILE, errno.ENFILE)),
    _Resource("allow more processes (ulimit -u), or lower --threads", (errno.EAGAIN,), ("can't start new thread",)),
    _Resource("check the disk", (errno.EIO,)),
)


def resource_fault(error: BaseException, where: str = "") -> ResourceError | None:
    """The fault of the machine that an exception amounts to, or that it was raised from; None for any other.

    A file that an error of ours says may not be read stays that error: it is a matter of the file.

    Args:
        error: any.
        where: the place concerned, if it is known better than by the file that the exception names.

    >>> resource_fault(RuntimeError("std::bad_alloc")).what
    'memory ran out'
    >>> resource_fault(ValueError("axis 3 of 2")) is None
    True
    """
    ours = False
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, ResourceError):
            return current if current is error else ResourceError(current.what, where=current.where, fix=current.fix)
        if isinstance(current, GraphpressError):
            ours, where = True, where or current.where
        elif (resource := _lacking(current)) is not None:
            if ours and resource is _PERMISSION:
                return None
            what = resource.what or _words_of(current, resource)
            return ResourceError(what, where=where or _file_of(current) or resource.where, fix=resource.fix)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return None


def _lacking(error: BaseException) -> _Resource | None:
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, OSError) and error.errno is not None:
        known = next((resource for resource in _RESOURCES if error.errno in resource.numbers), None)
        if known is not None or error.errno != errno.ENOENT or error.filename is not None:
            return known  # what remains is how the library reports that no temporary folder can be written
    if not isinstance(error, (RuntimeError, ImportError, OSError)) and type(error).__module__ == "builtins":
        return None  # only native code reports such a thing in words
    text = message_of(error)
    return next((resource for resource in _RESOURCES if _is_named(resource, text)), None)


def _is_named(resource: _Resource, text: str) -> bool:
    lower = text.lower()
    system = (os.strerror(number) for number in resource.numbers)
    return (
        any(word in lower for word in resource.words)
        or any(words in text for words in system)
        or any(int(number) in resource.numbers for number in _NUMBER.findall(lower))
    )


def _file_of(error: BaseException) -> str:
    file = getattr(error, "filename", None)
    return os.fsdecode(file) if isinstance(file, (str, bytes, os.PathLike)) else ""


def _words_of(error: BaseException, resource: _Resource) -> str:
    """The system's words, where they or their number are given; else the first line of what the library says."""
    if words := getattr(error, "strerror", None):
        return str(words)
    text = message_of(error).strip()
    quoted = [int(number) for number in _NUMBER.findall(text.lower()) if int(number) in resource.numbers]
    return os.strerror(quoted[0]) if quoted else (text or type(error).__name__).splitlines()[0]


def message_of(error: BaseException) -> str:
    """What the exception says; a word about it where even asking it fails."""
    try:
        return str(error)
    except Exception:
        return "it has no message"


def reraise_resource_fault(error: BaseException, where: str = "") -> None:
    """What whoever handles any exception at all calls first: a fault of the machine is not theirs to handle.

    Args:
        error: any.
        where: as for ``resource_fault``.

    Raises:
        ResourceError: it is one.
    """
    fault = resource_fault(error, where)
    if fault is error:
        raise error
    if fault is not None:
        raise fault from error


@contextmanager
def resource_faults() -> Iterator[None]:
    """Give the faults of the machine that end the block their class, whatever they came as.

    Raises:
        ResourceError: one ended it.
    """
    try:
        yield
    except ResourceError:
        raise
    except Exception as error:
        reraise_resource_fault(error)
        raise


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or lists them, of very many the first few.

    >>> did_you_mean("quantise", ["prune", "quantize"])
    "did you mean 'quantize'?"
    """
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"choose one of: {', '.join(choices) if len(choices) <= MOST_WORDS else listed(choices)}"


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


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
