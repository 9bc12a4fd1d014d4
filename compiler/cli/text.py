"""Text on the terminal: aligned tables, JSON, and the one door through which both leave.

Names in a model, names of files and messages of libraries are untrusted: ``echo``, ``table`` and the others escape all
text but what is ``TerminalText``, which they made of escaped text and colors. So nothing gets out that was forgotten.
Color is click's, which drops it where stdout is no terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from graphpress.errors import GraphpressError
from graphpress.plain import plain
from graphpress.printable import printable, printable_json


class TerminalText(str):
    """Text that terminals may be given as it is: what it was made of is escaped."""

    __slots__ = ()


def shown(text: str) -> TerminalText:
    r"""The text, escaped unless it is that already.

    >>> print(shown(shown("conv\x1b[2J\n")))
    conv\x1b[2J\n
    """
    return text if isinstance(text, TerminalText) else TerminalText(printable(text))


def styled(text: str, **style: Any) -> TerminalText:
    """The text in the colors of ``click.style``."""
    return TerminalText(click.style(shown(text), **style))


def joined(parts: Iterable[str], separator: str = "\n") -> TerminalText:
    """Texts in a row, each escaped; with no other separator, lines."""
    return TerminalText(separator.join(map(shown, parts)))


def table(rows: Sequence[Sequence[str]], *, head: Sequence[str] = (), right: Sequence[int] = ()) -> TerminalText:
    """Rows as aligned columns; the columns in ``right`` are aligned on the right.

    >>> print(table([("a", "1"), ("bb", "10")], right=[1]))
    a    1
    bb  10
    """
    every = [[shown(cell) for cell in row] for row in ([head, *rows] if head else rows)]
    widths = [max(len(click.unstyle(row[column])) for row in every) for column in range(len(every[0]))] if every else []
    lines = [joined((_pad(cell, width, column in right) for column, (cell, width) in
                     enumerate(zip(row, widths, strict=True))), "  ").rstrip() for row in every]  # fmt: skip
    if head:
        lines[0] = click.style(lines[0], dim=True)
    return TerminalText("\n".join(lines))


def one_line(error: GraphpressError) -> str:
    """An error in the row of a table: where, what, and the remedy."""
    return f"{error.where}: {error.what}; fix: {error.fix}"


def echo(*lines: str, err: bool = False) -> None:
    """Print texts, each on lines of its own, on stdout or stderr."""
    click.echo(joined(lines), err=err)


def echo_json(item: Any) -> None:
    """Print records, mappings or lists as JSON on stdout."""
    click.echo(printable_json(json.dumps(plain(item), indent=2, ensure_ascii=False, allow_nan=False)))


def _pad(cell: TerminalText, width: int, right: bool) -> TerminalText:
    space = " " * (width - len(click.unstyle(cell)))
    return TerminalText(space + cell if right else cell + space)
