"""Plain text for terminals: aligned tables and JSON. Color is click's, which drops it where stdout is no terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from graphpress.errors import GraphpressError
from graphpress.plain import plain


def table(rows: Sequence[Sequence[str]], *, head: Sequence[str] = (), right: Sequence[int] = ()) -> str:
    """Rows as aligned columns; the columns in ``right`` are aligned on the right.

    >>> print(table([("a", "1"), ("bb", "10")], right=[1]))
    a    1
    bb  10
    """
    every = [head, *rows] if head else list(rows)
    widths = [max(len(click.unstyle(row[column])) for row in every) for column in range(len(every[0]))] if every else []
    lines = ["  ".join(_pad(cell, width, column in right) for column, (cell, width) in
                       enumerate(zip(row, widths, strict=True))).rstrip() for row in every]  # fmt: skip
    if head:
        lines[0] = click.style(lines[0], dim=True)
    return "\n".join(lines)


def printable(text: str) -> str:
    r"""Text from a model file or the user's code, with control characters written out so that no terminal obeys them.

    >>> print(printable("conv\x1b[2J\n"), end="")
    conv\x1b[2J
    """
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def one_line(error: GraphpressError) -> str:
    """An error in the row of a table: where, what, and the remedy."""
    return f"{error.where}: {error.what}; fix: {error.fix}"


def echo_json(item: Any) -> None:
    """Print records, mappings or lists as JSON on stdout."""
    click.echo(json.dumps(plain(item), indent=2, ensure_ascii=False, allow_nan=False))


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - len(click.unstyle(cell)))
    return space + cell if right else cell + space
