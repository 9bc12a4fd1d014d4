"""The program: its commands, and how a run of one of them ends."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from graphpress.cli.bench import bench
from graphpress.cli.compare import compare
from graphpress.cli.doctor import doctor
from graphpress.cli.failure import PROGRAM, USAGE, Failure, explain, report
from graphpress.cli.group import DefaultGroup
from graphpress.cli.inspect import inspect
from graphpress.cli.optimize import optimize
from graphpress.cli.passes import passes
from graphpress.cli.targets import targets
from graphpress.cli.text import echo, joined
from graphpress.errors import TERMINATED
from graphpress.progress import doing

CLOSED_PIPE = 141
"""As of a program that SIGPIPE ends: 128 + 13."""
ENDED = Failure("code that the command runs ended it (SystemExit)", USAGE, fix="let it return, or raise an error")
"""A metric or a hook that calls ``sys.exit`` has not delivered anything."""


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        echo(f"graphpress {version('graphpress')}")
        ctx.exit()


@click.group(
    cls=DefaultGroup,
    default=optimize,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Compile a trained ONNX model into a smaller, faster one that is still right.

    MODEL is an .onnx file. The result, a report and a manifest go into one folder.
    """
    if ctx.invoked_subcommand in cli.commands:
        ctx.with_resource(doing(f"running `{PROGRAM} {ctx.invoked_subcommand}`"))


for _command in (inspect, compare, bench, targets, passes, doctor):
    cli.add_command(_command)


def run(words: Sequence[str]) -> int:
    """Run a command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        The exit code. Errors are printed.

    Raises:
        KeyboardInterrupt: the user interrupted it.
        SystemExit: it was told to end (SIGTERM).
    """
    stdout = sys.stdout
    try:
        with _debug_log("--debug" in words):
            return int(cli.main(list(words), prog_name=PROGRAM, standalone_mode=False) or 0)
    except click.Abort as abort:  # what click makes of an interrupt, whose notes say what was kept
        raise (abort.__cause__ if isinstance(abort.__cause__, KeyboardInterrupt) else KeyboardInterrupt()) from None
    except SystemExit as stop:
        if sys.stdout is not stdout:
            return CLOSED_PIPE  # click wraps the streams of a closed pipe, so that nothing more is said, and exits
        if stop.code == TERMINATED:
            raise
        return report(ENDED, words)
    except click.exceptions.NoArgsIsHelpError as request:
        echo(*request.format_message().split("\n"), err=True)
        return USAGE
    except Exception as error:
        if "--debug" in words:
            echo(*traceback.format_exc().rstrip("\n").split("\n"), err=True)
        return report(explain(error), words)


@contextmanager
def _debug_log(wanted: bool) -> Iterator[None]:
    """What the compiler logs goes to stderr where it is wanted: tracebacks of passes that broke, above all."""
    if not wanted:
        yield
        return
    import logging

    class Lines(logging.Formatter):
        """Names in messages and tracebacks are untrusted."""

        def format(self, record: logging.LogRecord) -> str:
            return joined(super().format(record).split("\n"))

    logger, handler = logging.getLogger("graphpress"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
