"""``optimize targets [NAME]``: the devices that are known, and what is known about one."""

from __future__ import annotations

from typing import Any

import click

from graphpress.cli.options import argument, debug_option, json_option
from graphpress.cli.text import echo, echo_json, one_line, say, table
from graphpress.plugins import OURS
from graphpress.targets import (
    Option,
    aliases_of,
    broken_targets,
    load_target,
    options_of,
    origin_of,
    target_summaries,
)


@click.command("targets")
@click.argument("name", required=False)
@json_option
@debug_option
def targets(name: str | None, as_json: bool) -> None:
    """List the devices to compile for, or show one.

    A target with options takes choices for them in braces: jetson{jetpack=5.1}. The path of a target file is a target
    too: ./board.toml.
    """
    if name is not None:
        _show(name, as_json)
    elif as_json:
        broken = [{"name": name, "error": one_line(error)} for name, error in broken_targets().items()]
        echo_json([*(_summary(*summary) for summary in target_summaries()), *broken])
    else:
        _list()


def _summary(name: str, backend: str, description: str) -> dict[str, Any]:
    known = {"name": name, "backend": backend, "description": description}
    return known | {"aliases": aliases_of(name), "options": _options(name), "origin": origin_of(name)}


def _list() -> None:
    """Every target, and below them the options of those that have some."""
    rows = [(_with_aliases(name), backend, _with_origin(name, words)) for name, backend, words in target_summaries()]
    say(table(rows, head=("target", "backend", "description")))
    options = [(name, _shown(options_of(name))) for name, _, _ in target_summaries()]
    echo("")
    say(table([row for row in options if row[1]], head=("target", "options in braces, the default first")))
    if broken := [(name, one_line(error)) for name, error in broken_targets().items()]:
        echo("")
        say(table(broken, head=("target", "broken: it cannot be used")))


def _options(name: str) -> dict[str, dict[str, Any]]:
    return {
        option: {"default": choices.default, "words": list(choices.choices)}
        for option, choices in options_of(name).items()
    }


def _shown(options: dict[str, Option]) -> str:
    """``jetpack=6.2|5.1|7.2, dla=off|on``."""
    return ", ".join(f"{name}={'|'.join(_default_first(option))}" for name, option in options.items())


def _default_first(option: Option) -> list[str]:
    return [option.default, *(word for word in option.choices if word != option.default)]


def _with_aliases(name: str) -> str:
    aliases = aliases_of(name)
    return f"{name} ({', '.join(aliases)})" if aliases else name


def _with_origin(name: str, words: str) -> str:
    """The description, with the package that brings the target where that is not ours."""
    return words if origin_of(name) == OURS else f"{words} (from {origin_of(name)})"


def _show(name: str, as_json: bool) -> None:
    from graphpress.plain import plain

    with argument("NAME"):
        target = load_target(name)
    fields, called = plain(target), target.called
    fields["aliases"] = aliases_of(called)
    fields["options"] = _options(called)
    fields["origin"] = origin_of(called) or called
    if as_json:
        echo_json(fields)
        return
    del fields["digest"]
    fields["options"] = _shown(options_of(called)) or "–"
    for group in ("quantization", "sparsity", "settings"):
        fields.update({f"{group}.{key}": value for key, value in fields.pop(group).items()})
    say(table([(key, _word(value)) for key, value in fields.items()]))


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
