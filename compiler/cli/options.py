"""Options that several commands share."""

from __future__ import annotations

import os

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an unexpected error."
)
threads_option = click.option(
    "--threads", type=click.IntRange(1), default=os.cpu_count, metavar="N",
    help="Threads to run with.  [default: all cores]",
)
seconds_option = click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True, metavar="S", help="How long to time."
)
