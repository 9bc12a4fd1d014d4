"""The entry point: one exit code and one clear message for everything that can go wrong."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from graphpress.cli.bench import bench
from graphpress.cli.compare import compare
from graphpress.cli.doctor import doctor
from graphpress.cli.group import DefaultGroup
from graphpress.cli.inspect import inspect
from graphpress.cli.optimize import optimize
from graphpress.cli.passes import passes
from graphpress.cli.targets import targets
from graphpress.cli.text import printable
from graphpress.errors import GraphpressError, did_you_mean

PROGRAM = "optimize"
BUG = 1
USAGE = 2
INTERRUPTED = 130


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"graphpress {version('graphpress')}")
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
def cli() -> None:
    """Compile a trained ONNX model into a smaller, faster one that is still right.

    MODEL is an .onnx file. The result, a report and a manifest go into one folder.
    """


for _command in (inspect, compare, bench, targets, passes, doctor):
    cli.add_command(_command)


@dataclass(frozen=True)
class Failure:
    """What went wrong, for a person or, with ``--json``, for a program."""

    what: str
    exit_code: int
    where: str = ""
    fix: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after the program's name; those of the process by default.

    Returns:
        The exit code. Errors are printed, never raised.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(cli.main(words, prog_name=PROGRAM, standalone_mode=False) or 0)
    except (KeyboardInterrupt, click.Abort):
        return _report(Failure("interrupted; nothing was written", INTERRUPTED), words)
    except SystemExit as stop:  # how click answers a closed pipe
        return stop.code if isinstance(stop.code, int) else BUG
    except click.exceptions.NoArgsIsHelpError as request:
        click.echo(request.format_message(), err=True)
        return USAGE
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        return _report(_explain(error), words)


def _explain(error: Exception) -> Failure:
    if isinstance(error, GraphpressError):
        return Failure(error.what, error.exit_code, error.where, error.fix)
    if isinstance(error, click.NoSuchOption):
        return Failure(error.message, USAGE, fix=_nearest_option(error))
    if isinstance(error, click.ClickException):
        return Failure(error.format_message(), USAGE, fix=f"see `{PROGRAM} --help`")
    if isinstance(error, OSError) and error.filename:
        return Failure(
            error.strerror or str(error),
            USAGE,
            str(error.filename),
            "check the path, its permissions and the free space",
        )
    text = (str(error).strip() or "no message").splitlines()[0]
    return Failure(
        f"unexpected {type(error).__name__}: {text}",
        BUG,
        fix="this is a bug of graphpress: run again with --debug and report the traceback",
    )


def _nearest_option(error: click.NoSuchOption) -> str:
    if error.ctx is None:
        return f"see `{PROGRAM} --help`"
    known = [name for param in error.ctx.command.get_params(error.ctx) for name in param.opts if name.startswith("--")]
    hint = did_you_mean(error.option_name, known)
    return hint if hint.startswith("did you mean") else f"see `{error.ctx.command_path} --help`"


def _report(failure: Failure, words: Sequence[str]) -> int:
    if "--json" in words:
        error: dict[str, Any] = {"what": failure.what, "where": failure.where, "fix": failure.fix}
        click.echo(json.dumps({"error": error | {"exit_code": failure.exit_code}}, indent=2, ensure_ascii=False))
        return failure.exit_code
    place = f"{failure.where}: " if failure.where else ""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {printable(place + failure.what)}", err=True)
    if failure.fix:
        click.echo(f"{click.style('fix:', bold=True)} {printable(failure.fix)}", err=True)
    return failure.exit_code
