"""Text on the terminal: aligned tables, JSON, and the one door through which both leave.

Names in a model, names of files and messages of libraries are untrusted: ``echo``, ``table`` and the others escape all
text but what is ``TerminalText``, which they made of escaped text and colors. So nothing gets out that was forgotten.
Color is click's, which drops it where stdout is no terminal. Lines for people end between words, not at the margin;
in files and pipes nothing is wrapped.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from graphpress.errors import GraphpressError
from graphpress.plain import plain
from graphpress.printable import printable, printable_json

_BETWEEN, _BELOW = "  ", "    "
_LEAST_LAST = 26
"""Columns that the last column of a table needs beside the others."""
_LEAST_WIDTH = 30
"""Terminals that say they are narrower are not believed."""


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

    Where the terminal is too narrow, the last column is wrapped; where little is left for it, it goes below the others.

    >>> print(table([("a", "1"), ("bb", "10")], right=[1]))
    a    1
    bb  10
    """
    every = [[shown(cell) for cell in row] for row in ([head, *rows] if head else rows)]
    widths = [max(_length(row[column]) for row in every) for column in range(len(every[0]))] if every else []
    lines = [_fitted([_pad(cell, width, column in right) for column, (cell, width) in
                      enumerate(zip(row, widths, strict=True))], widths) for row in every]  # fmt: skip
    if head:
        lines[0] = click.style(lines[0], dim=True)
    return TerminalText("\n".join(lines))


def _fitted(row: Sequence[TerminalText], widths: Sequence[int]) -> str:
    """A row of padded cells, on several lines where the terminal is narrower than all of it."""
    width, start = terminal_width(), sum(widths[:-1]) + len(_BETWEEN) * (len(widths) - 1)
    if width is None or start + widths[-1] <= width or len(row) == 1:
        return _BETWEEN.join(row).rstrip()
    first = _BETWEEN.join(row[:-1])
    if width - start < _LEAST_LAST:
        return "\n".join([first.rstrip(), *_wrapped(f"{_BELOW}{row[-1].strip()}", width)])
    return f"{first}{_BETWEEN}" + "\n".join(_wrapped(row[-1].rstrip(), width - start)).replace("\n", f"\n{' ' * start}")


def one_line(error: GraphpressError) -> str:
    """An error in the row of a table: where, what, and the remedy."""
    return f"{error.where}: {error.what}; fix: {error.fix}"


def echo(*lines: str, err: bool = False) -> None:
    """Print texts as they are, each on lines of its own, on stdout or stderr."""
    click.echo(joined(lines), err=err)


def say(*lines: str, err: bool = False) -> None:
    """Print texts for people: as ``echo``, but that lines end between words where the terminal ends."""
    width = terminal_width(err=err)
    text = joined(lines)
    if width is not None:
        text = joined((TerminalText(part) for line in text.split("\n") for part in _wrapped(line, width, 2)), "\n")
    click.echo(text, err=err)


def terminal_width(*, err: bool = False) -> int | None:
    """Columns of the terminal that stdout or stderr goes to; None where it goes elsewhere.

    ``COLUMNS`` alone is no terminal: readline leaves it to all children of a program that has it.
    """
    return max(shutil.get_terminal_size().columns, _LEAST_WIDTH) if _is_terminal(err=err) else None


def _is_terminal(*, err: bool) -> bool:
    return (sys.stderr if err else sys.stdout).isatty()


def _wrapped(line: str, width: int, hanging: int = 0) -> list[str]:
    """A line as lines of whole words; those behind the first are indented like it, and by ``hanging`` more.

    >>> _wrapped("  one two three", 9, 2)
    ['  one two', '    three']
    """
    indent = " " * (len(line) - len(line.lstrip(" ")) + hanging)
    lines = [""]
    for word in re.findall(r" *[^ ]+", line):
        if lines[-1].strip() and _length(lines[-1] + word) > width:
            lines.append(indent + word.lstrip(" "))
        else:
            lines[-1] += word
    return lines


def _length(text: str) -> int:
    """Columns that it takes: colors take none."""
    return len(click.unstyle(text))


def echo_json(item: Any) -> None:
    """Print records, mappings or lists as JSON on stdout."""
    click.echo(printable_json(json.dumps(plain(item), indent=2, ensure_ascii=False, allow_nan=False)))


def _pad(cell: TerminalText, width: int, right: bool) -> TerminalText:
    space = " " * (width - _length(cell))
    return TerminalText(space + cell if right else cell + space)
