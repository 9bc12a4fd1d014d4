"""The build script of a bundle, written from the same flags as everything else that names them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from graphpress.backends.tensorrt.bundle.commands import CALIBRATION, LAYERS, TIMING_CACHE, TOOLS, Flag, Way
from graphpress.backends.tensorrt.platform import Platform, platform_of
from graphpress.errors import UsageError
from graphpress.printable import printable, shell_word
from graphpress.targets import Target, load_target, options_of

if TYPE_CHECKING:
    import jinja2


def build_script(target: Target, platform: Platform, ways: Sequence[Way]) -> str:
    """The text of ``build.sh``.

    Args:
        target: whose other choices stand for other versions of TensorRT.
        platform: TensorRT on the device.
        ways: the ways to build, the preferred one first.
    """
    return template("build.sh.j2").render(
        version=shlex.quote(platform.tensorrt),
        product=shlex.quote(platform.product),
        tool=shlex.quote(TOOLS[platform.product]),
        default=shlex.quote(ways[0].name),
        names=shlex.quote("\n".join(way.name for way in ways)),
        remedies=shlex.quote("\n".join(remedies(target))),
        ways=[{"name": way.name, "plan": way.plan, "flags": [_flag(flag) for flag in way.flags]} for way in ways],
        timing_cache=TIMING_CACHE,
        calibration=CALIBRATION,
        layers=LAYERS,
    )


def remedies(target: Target) -> list[str]:
    """For each TensorRT that an option of the target stands for, the version and the target as it is written."""
    by_version: dict[tuple[int, ...], str] = {}
    for name, option in options_of(target.called).items():
        for choice in option.choices:
            choices = ",".join(f"{key}={chosen}" for key, chosen in {**target.chosen, name: choice}.items())
            try:
                other = load_target(f"{target.called}{{{choices}}}")
            except UsageError:
                continue  # a choice that makes no sense beside the others
            version = platform_of(other).tensorrt
            by_version.setdefault(tuple(int(part) for part in version.split(".")), f"{version} {other.canonical_name}")
    return [line for _, line in sorted(by_version.items())]


@cache
def template(name: str) -> jinja2.Template:
    """One of the templates beside this module; an undefined name is an error, and a page shows names as they print."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        finalize=printable if name.endswith(".md.j2") else None,
        comment_start_string="<#",  # ``{#`` is a length in the shell
        comment_end_string="#>",
    )
    return environment.get_template(name)


def _flag(flag: Flag) -> dict[str, str]:
    variable = f'"${flag.variable}"' if flag.variable else ""
    return {"when": "needed" if flag.needed else "optional", "option": f"{shell_word(flag.text)}{variable}"}
