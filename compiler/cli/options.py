"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from graphpress.errors import UsageError

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an unexpected error."
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    default=lambda: os.cpu_count() or 1,
    metavar="N",
    help="Threads to run with.  [default: all cores]",
)
seconds_option = click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True, metavar="S", help="How long to time."
)


@contextmanager
def argument(name: str) -> Iterator[None]:
    """Errors about a word that was given as this argument name it, not the option that takes such words elsewhere.

    Where an error names a file, that is where it stays.
    """
    try:
        yield
    except UsageError as error:
        where = name if error.where.startswith("--") else error.where
        raise UsageError(error.what, where=where, fix=error.fix) from error
