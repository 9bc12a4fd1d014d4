"""``optimize MODEL``: the main job."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, TypeVar

import click

from graphpress.cli.group import MainCommand, SectionOption
from graphpress.cli.text import echo, say
from graphpress.cli.types import FILLED, PIPELINE, budget, duration
from graphpress.errors import UsageError

if TYPE_CHECKING:
    from graphpress.driver.api import Result

BUDGET_NOT_MET = 4
NOT_DONE = 7
"""Something that was asked for by name did not happen; what is delivered is without it."""


F = TypeVar("F", bound=Callable[..., Any])


def _option(section: str, *names: str, help: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, cls=SectionOption, section=section, help=help, **settings)


@click.command("MODEL", cls=MainCommand)
@click.argument("model")
@_option(
    "Target",
    "-t",
    "--target",
    type=FILLED,
    metavar="NAME|FILE",
    default="cpu",
    show_default=True,
    help="Device the model is for, options in braces: jetson{jetpack=5.1}, or a target file: ./board.toml; "
    "`optimize targets` lists those that have a name.",
)
@_option("Target", "--backend", type=FILLED, metavar="NAME", help="What runs it there, if not the target's own choice.")
@_option(
    "Data and accuracy",
    "-d",
    "--data",
    type=FILLED,
    metavar="FILE",
    help="Data file (YAML), or an .npz with arrays named like the inputs and, if there are any, `labels`.",
)
@_option(
    "Data and accuracy",
    "--metric",
    type=FILLED,
    metavar="NAME",
    help="top1, top5, perplexity, or what compares with the original: agreement, closeness, kl, sqnr, cosine; or "
    "module:function.  [default: top1; without labels, agreement of classes or closeness of numbers]",
)
@_option(
    "Data and accuracy",
    "--max-drop",
    callback=budget,
    default="auto",
    metavar="FRACTION|none",
    help="How much of the metric may be lost: 0.01 is one point, `none` waives the limit.  "
    "[default: 0.01; where numbers are compared, an error of 5 %]",
)
@_option(
    "Data and accuracy",
    "--eval-limit",
    type=click.IntRange(1),
    metavar="N",
    help="Evaluate on at most N samples, evenly spaced.",
)
@_option(
    "Passes",
    "-r",
    "--recipe",
    type=FILLED,
    metavar="NAME|FILE",
    help="A built-in recipe (cleanup, int8, …; `optimize passes` lists them), a recipe file, or the manifest.json "
    "of a run to replay.  [default: the target's]",
)
@_option(
    "Passes",
    "--passes",
    type=PIPELINE,
    metavar="LIST",
    help='Passes by hand: "fold_batch_norm,quantize{per_channel=true}".',
)
@_option(
    "Passes",
    "--allow-code",
    is_flag=True,
    help="Run the code (module:function, module:Class) that a manifest names, too.",
)
@_option(
    "Passes", "--exclude", type=FILLED, metavar="REGEX", help="Nodes whose name matches are left alone by lossy passes."
)
@_option(
    "Passes",
    "--allow-worse",
    is_flag=True,
    help="Keep a result that is slower or larger. The accuracy limit still holds.",
)
@_option(
    "Passes",
    "--verify",
    type=click.Choice(["none", "final", "each"]),
    default="final",
    show_default=True,
    help="When to compare the outputs of lossless passes with the original's.",
)
@_option(
    "Passes",
    "--strict",
    is_flag=True,
    help="End with exit code 1 and no result where a pass breaks, instead of going on without it.",
)
@_option(
    "Running",
    "--input-shape",
    type=FILLED,
    metavar="NAME=1x3x224x224",
    multiple=True,
    help="Fix the shape of an input; may be given several times.",
)
@_option(
    "Running",
    "--input-range",
    type=FILLED,
    metavar="NAME=MIN:OPT:MAX",
    multiple=True,
    help="Shapes (1x3x8x8:4x3x8x8:16x3x8x8) that an open input takes, for compilers that tune for them.",
)
@_option("Running", "--threads", type=click.IntRange(1), metavar="N", help="Threads to run and measure with.")
@_option(
    "Running",
    "--tuning",
    type=click.Choice(["rules", "quick", "deep"]),
    default="rules",
    show_default=True,
    help="How the backend tvm chooses its kernels: by rules, or by measuring, for a minute or for several. Ctrl-C ends "
    "it and keeps what was measured; --cache-dir keeps it for other runs.",
)
@_option(
    "Running",
    "--weights",
    type=click.Choice(["beside", "inside"]),
    default="beside",
    show_default=True,
    help="Where the weights of a library of the backend tvm lie: in a file beside it, or inside.",
)
@_option(
    "Running",
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of everything that is random.",
)
@_option(
    "Running",
    "--time-limit",
    callback=duration,
    metavar="TIME",
    help="Take no longer than this: 90, 10m, 1h. What is done by then stays.",
)
@_option(
    "Running",
    "--custom-ops",
    type=FILLED,
    metavar="LIB",
    multiple=True,
    help="A shared library with custom operators of ONNX Runtime, to be loaded; may be given several times.",
)
@_option("Running", "--cache-dir", type=FILLED, metavar="DIR", help="Keep expensive results there, by content.")
@_option(
    "Output",
    "-o",
    "--output",
    type=FILLED,
    metavar="DIR",
    help="Where to write.  [default: MODEL-TARGET in the working directory]",
)
@_option("Output", "-f", "--force", is_flag=True, help="Replace an earlier result in the output folder.")
@_option("Output", "--keep-docs", is_flag=True, help="Keep doc strings and what the exporter noted beside nodes.")
@_option("Output", "--json", "as_json", is_flag=True, help="Print report.json, or an error object, and nothing else.")
@_option("Output", "-q", "--quiet", is_flag=True, help="Print nothing but errors and warnings.")
@_option("Output", "--debug", is_flag=True, expose_value=False, help="Show the traceback of an unexpected error.")
@click.pass_context
def optimize(ctx: click.Context, /, model: str, as_json: bool, quiet: bool, **options: Any) -> None:
    """Optimize a model for a device."""
    if options["recipe"] and options["passes"]:
        raise UsageError("--recipe and --passes exclude each other", where="--passes", fix="give one of the two")
    from graphpress.cli.progress import progress_on_stderr
    from graphpress.driver.api import run
    from graphpress.driver.options import Options
    from graphpress.driver.source import ModelFile

    quietly = redirect_stdout(sys.stderr) if as_json else nullcontext()  # the user's code may print
    with quietly, progress_on_stderr(silent=quiet or as_json) as progress:
        result = run(ModelFile.at(model), Options(**options), progress)
    if as_json:
        _print_json(result)
    elif not quiet:
        _print_summary(result)
    else:
        _tell_what_went_wrong(result)
    ctx.exit(_exit_code(result))


def _exit_code(result: Result) -> int:
    if result.status == "budget_not_met":
        return BUDGET_NOT_MET
    return NOT_DONE if result.report.not_done else 0


def _print_json(result: Result) -> None:
    from graphpress.report.records import to_json

    echo(*to_json(result.report).rstrip("\n").split("\n"))


def _print_summary(result: Result) -> None:
    from graphpress.cli.summary import summary

    say(summary(result.report, result.output))


def _tell_what_went_wrong(result: Result) -> None:
    """A line on stderr each, so that a quiet run without what was asked for, or on unsuitable data, is not mute."""
    for warning in result.report.warnings:
        say(f"warning: {warning}", err=True)
    for sentence in dict.fromkeys((*result.report.failures, *result.report.not_done)):
        say(sentence, err=True)
    if result.status == "budget_not_met":
        steps = f"; what to try: {', or '.join(result.report.advice)}" if result.report.advice else ""
        say(f"accuracy budget not met{steps}", err=True)
