"""Where long work tells how far it is: the loops, for a bar; and the stage, for the case that the process dies.

Native code that crashes takes the process with it, and nobody is left to say what it was at. So whoever watches a
process from outside (the supervisor of the command line) has it write down each stage before it begins, and where it
works aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")

STAGE_WRITER: ContextVar[Callable[[str], object]] = ContextVar("STAGE_WRITER", default=lambda stage: None)
"""Who writes down the stage; nobody where nobody watches."""

PLACE_WRITER: ContextVar[Callable[[str], object]] = ContextVar("PLACE_WRITER", default=lambda folder: None)
"""Who writes down in which folder a run works aside, to remove what it leaves there if it dies."""

_STAGE: ContextVar[str] = ContextVar("_STAGE", default="")


class Progress(Protocol):
    """Watches loops."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        """Yield the items, advancing the bar by one each."""
        ...


class Silent:
    """The progress that nobody watches."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        """Yield the items."""
        return items


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Have it written down that the block is under way, below the stage around it, which goes on afterwards.

    Args:
        what: in words that go on after "while": ``running the pass prune``.
    """
    write, around = STAGE_WRITER.get(), _STAGE.get()
    inside = f"{around}: {what}" if around else what
    token = _STAGE.set(inside)
    write(inside)
    try:
        yield
    finally:
        _STAGE.reset(token)
        write(around)
