"""Where long work tells how far it is; the command line draws a bar, everything else ignores it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


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
