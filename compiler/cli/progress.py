"""Progress on stderr: bars on a terminal, one line a stage elsewhere, nothing when asked to be quiet."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from graphpress.cli.text import echo, shown

if TYPE_CHECKING:
    import rich.progress

    from graphpress.progress import Progress


BAR_WIDTH = 20
"""With a description and the times, a line of 80 columns."""


class RichProgress:
    """Draws a bar for each stage under way; a stage that is done leaves the screen."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars

    def track(self, items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        """Yield the items, advancing the bar by one each."""
        task = self._bars.add_task(shown(description), total=_length(items) if total is None else total)
        try:
            for item in items:
                yield item
                self._bars.advance(task)
        finally:
            self._bars.remove_task(task)


class LineProgress:
    """Says once that a stage begins: for logs."""

    def track(self, items: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
        """Yield the items."""
        echo(f"{description} …", err=True)
        return items


@contextmanager
def progress_on_stderr(*, silent: bool = False) -> Iterator[Progress]:
    """The progress that fits where stderr goes."""
    if silent:
        from graphpress.progress import Silent

        yield Silent()
    elif sys.stderr.isatty():
        with _bars() as bars:
            yield RichProgress(bars)
    else:
        yield LineProgress()


def _bars() -> rich.progress.Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    description, bar = TextColumn("{task.description}", markup=False), BarColumn(bar_width=BAR_WIDTH)
    times = (TimeElapsedColumn(), TextColumn("·"), TimeRemainingColumn(), TextColumn("left"))
    columns = (SpinnerColumn(), description, bar, MofNCompleteColumn(), *times)
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _length(items: Iterable[Any]) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]
    except TypeError:
        return None
