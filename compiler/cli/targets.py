"""``optimize targets [NAME]``: the devices that are known, and what is known about one."""

from __future__ import annotations

from typing import Any

import click

from graphpress.cli.options import argument, debug_option, json_option
from graphpress.cli.text import echo_json, table
from graphpress.targets import aliases_of, load_target, target_summaries


@click.command("targets")
@click.argument("name", required=False)
@json_option
@debug_option
def targets(name: str | None, as_json: bool) -> None:
    """List the devices to compile for, or show one."""
    if name is not None:
        _show(name, as_json)
    elif as_json:
        echo_json([{"name": name, "backend": backend, "description": words, "aliases": aliases_of(name)}
                   for name, backend, words in target_summaries()])  # fmt: skip
    else:
        rows = [(_with_aliases(name), backend, words) for name, backend, words in target_summaries()]
        click.echo(table(rows, head=("target", "backend", "description")))


def _with_aliases(name: str) -> str:
    aliases = aliases_of(name)
    return f"{name} ({', '.join(aliases)})" if aliases else name


def _show(name: str, as_json: bool) -> None:
    from graphpress.report.records import plain

    with argument("NAME"):
        fields = plain(load_target(name))
    fields["aliases"] = aliases_of(fields["name"])
    if as_json:
        echo_json(fields)
        return
    policy = fields.pop("quantization")
    fields.update({f"quantization.{key}": value for key, value in policy.items()})
    click.echo(table([(key, _word(value)) for key, value in fields.items()]))


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
