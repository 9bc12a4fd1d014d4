"""``optimize doctor``: what works on this machine, and how to get what does not."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import requires

import click

from graphpress.cli.options import debug_option, json_option
from graphpress.cli.text import echo_json, joined, say, styled, table
from graphpress.errors import GraphpressError

DISTRIBUTION = "graphpress"

BACKEND_EXTRAS = ("tensorrt", "tvm")
"""Extras that serve nothing but the backend of the same name."""


@dataclass(frozen=True)
class Component:
    """Something optional.

    Args:
        name: the backend or extra.
        works: whether it can be used here.
        detail: versions, or the reason why not.
        fix: how to get it; empty when it works, or when it would be of no use yet.
    """

    name: str
    works: bool
    detail: str
    fix: str = ""


@click.command("doctor")
@json_option
@debug_option
def doctor(as_json: bool) -> None:
    """Tell what works here and how to get the rest."""
    from graphpress.runtime.environment import library_versions, machine

    backends, extras = list(backend_states()), list(extra_states(requires(DISTRIBUTION) or ()))
    versions = library_versions()
    facts = machine_facts()
    if as_json:
        tools = {"tools": facts} if facts else {}
        echo_json({"versions": versions, "machine": machine(), **tools, "backends": backends, "extras": extras})
        return
    say(_section("Versions", [(name, installed or "not installed") for name, installed in versions.items()]))
    say(_section("Machine", list(machine().items())))
    for name, rows in facts.items():
        say(_section(f"Tools of the backend {name}", list(rows.items())))
    say(_section("Backends", [_row(state) for state in backends]))
    say(_section("Extras", [_row(state) for state in extras]))


def backend_states() -> Iterable[Component]:
    """Every backend that can be named, with whether it works here."""
    from graphpress.manager.registry import backend_names, load_backend

    for name in backend_names():
        try:
            state = load_backend(name).available()
        except GraphpressError as error:
            yield Component(name, False, error.what, error.fix)
        else:
            yield Component(name, state.works, state.detail, state.install)


def machine_facts() -> dict[str, Mapping[str, str]]:
    """What backends have to say of tools and features of this machine, by name of the backend."""
    from graphpress.backend import TellsOfMachine
    from graphpress.manager.registry import backend_names, load_backend

    facts: dict[str, Mapping[str, str]] = {}
    for name in backend_names():
        with suppress(GraphpressError):  # told of where backends are listed
            backend = load_backend(name)
            if isinstance(backend, TellsOfMachine):
                facts[name] = backend.machine_facts()
    return facts


def extra_states(requirements: Iterable[str]) -> Iterable[Component]:
    """The optional extras in a distribution's requirements, with what of each is installed here.

    >>> [state.name for state in extra_states(["numpy>=1", "nonesuch>=2; extra == 'torch'"])]
    ['torch']
    """
    from graphpress.manager.registry import backend_names
    from graphpress.runtime.environment import library_versions

    wanted: dict[str, list[str]] = {}
    for requirement in requirements:
        extra = re.search(r"extra == ['\"]([\w.-]+)['\"]", requirement)
        name = re.match(r"[\w.-]+", requirement)
        if extra and name and name[0] != DISTRIBUTION and _for_this_machine(requirement):
            wanted.setdefault(extra[1], []).append(name[0])
    for extra_name, names in wanted.items():
        versions = library_versions(tuple(names))
        missing = [name for name, version in versions.items() if version is None]
        detail = f"missing {', '.join(missing)}" if missing else ", ".join(f"{n} {v}" for n, v in versions.items())
        if extra_name in BACKEND_EXTRAS and extra_name not in backend_names():
            yield Component(extra_name, not missing, f"{detail} (for a backend that is not built yet)")
            continue
        fix = f'pip install "{DISTRIBUTION}[{extra_name}]"' if missing else ""
        yield Component(extra_name, not missing, detail, fix)


def _for_this_machine(requirement: str) -> bool:
    machines = re.search(r"platform_machine == ['\"](\w+)['\"]", requirement)
    return machines is None or machines[1] == platform.machine()


def _row(state: Component) -> tuple[str, str, str]:
    mark = styled("yes", fg="green") if state.works else styled("no", fg="yellow")
    return state.name, mark, f"{state.detail}; get it with: {state.fix}" if state.fix else state.detail


def _section(title: str, rows: list[tuple[str, ...]]) -> str:
    body = table([(f"  {row[0]}", *row[1:]) for row in rows])
    return joined([styled(title, bold=True), body, ""])
