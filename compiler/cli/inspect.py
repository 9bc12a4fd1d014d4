"""``optimize inspect MODEL``: the graph as text, what layers cost, which channels go together, or what ranks keep."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphpress.cli.options import debug_option, json_option, threads_option
from graphpress.cli.text import echo, echo_json, joined, say, table
from graphpress.cli.types import FILLED
from graphpress.errors import UsageError
from graphpress.report import sentences

if TYPE_CHECKING:
    from graphpress.analysis.cost import ModelCost
    from graphpress.coupling import Coupling, Group
    from graphpress.ir import Model

_FEW = 3
"""Layers that a line names."""


@click.command("inspect")
@click.argument("model")
@click.option("--cost", is_flag=True, help="Show what each layer costs instead of the graph.")
@click.option("--groups", is_flag=True, help="Show which channels can be removed together, and what is pinned.")
@click.option("--ranks", is_flag=True, help="Show what each layer keeps at each rank, and what that would save.")
@click.option("-d", "--data", type=FILLED, metavar="FILE", help="With --ranks, what layers read: of their outputs.")
@click.option("-t", "--target", type=FILLED, metavar="NAME", help="With --ranks, take times on this target, too.")
@threads_option
@json_option
@debug_option
def inspect(model: str, cost: bool, groups: bool, ranks: bool, as_json: bool, **settings: Any) -> None:
    """Print a model as text, what its layers cost, its coupled groups of channels, or the ranks of its layers."""
    from graphpress.analysis.cost import model_cost
    from graphpress.ir import load

    _check_question(cost=cost, groups=groups, ranks=ranks, **settings)
    graph = load(model)
    if ranks:
        _show_ranks(graph, Path(model), as_json, **settings)
    elif groups:
        _show_groups(graph, as_json)
    elif as_json:
        echo_json(model_cost(graph))
    elif cost:
        say(_cost_table(model_cost(graph)))
    else:
        from graphpress.ir.printer import print_model

        echo(*print_model(graph).rstrip("\n").split("\n"))


def _check_question(*, data: str | None, target: str | None, threads: int, **asked: bool) -> None:
    """One question, and options that belong to it.

    Raises:
        UsageError: there are two, or options of another.
    """
    questions = [f"--{name}" for name, is_asked in asked.items() if is_asked]
    if len(questions) > 1:
        raise UsageError(f"{' and '.join(questions)} are two questions", where="inspect", fix="ask one of them")
    given = [f"--{name}" for name, value in (("data", data), ("target", target)) if value is not None]
    if given and not asked["ranks"]:
        raise UsageError(f"{' and '.join(given)} is for --ranks", where="inspect", fix="add --ranks, or leave it out")


def _show_ranks(model: Model, path: Path, as_json: bool, **settings: Any) -> None:
    from graphpress.cli.ranks import rank_table, survey

    ranks = survey(_clean(model), path, **settings)
    echo_json(ranks) if as_json else say(rank_table(ranks))


def _show_groups(model: Model, as_json: bool) -> None:
    from graphpress.coupling import couple, shuffles_to_gathers, unshare
    from graphpress.ir import label

    model = _clean(model)
    unshare(model)
    shuffles_to_gathers(model)
    coupling = couple(model)
    if as_json:
        echo_json(
            {
                "groups": [
                    {
                        "name": group.name,
                        "units": group.size,
                        "parameters": _parameters(group),
                        "written_by": [label(node) for node in group.writers],
                        "constants": [f"{label(place.value)}[{place.axis}]" for place in group.constants],
                    }
                    for group in coupling.groups
                ],
                "pinned": coupling.pinned,
                "notes": coupling.channels.notes,
            }
        )
        return
    say(_group_table(coupling))


def _clean(model: Model) -> Model:
    """The model as pruning sees it: paddings and shapes that can be known are."""
    from graphpress.manager.contract import Context
    from graphpress.manager.evaluator import NoEvaluator
    from graphpress.manager.manager import Manager
    from graphpress.manager.recipe import from_name
    from graphpress.targets import load_target

    manager = Manager(Context(load_target("cpu"), model), NoEvaluator(), (), "none")
    return manager.run(model, from_name("cleanup")).checkpoints[-1].model


def _group_table(coupling: Coupling) -> str:
    rows = [
        (group.name, str(group.size), sentences.count(_parameters(group)), _few(group)) for group in coupling.groups
    ]
    parts: list[str] = [table(rows, head=("group", "units", "parameters", "written by"), right=(1, 2))] if rows else []
    if not rows:
        parts.append("no channels can be removed")
    if coupling.pinned:
        pinned = [(pin.where, str(pin.size), pin.why) for pin in coupling.pinned]
        parts.append(table(pinned, head=("pinned", "size", "why"), right=(1,)))
    parts += [f"not followed: {note}" for note in coupling.channels.notes]
    return joined(parts, "\n\n")


def _few(group: Group) -> str:
    from graphpress.ir import label

    names = [label(node) for node in group.writers]
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def _parameters(group: Group) -> int:
    """Elements of all slices that go with the units, each slice counted for itself."""
    return sum(
        math.prod(place.value.shape.numpy()) // len(place.units) * int((place.units >= 0).sum())
        for place in group.constants
        if place.value.shape is not None
    )


def _cost_table(cost: ModelCost) -> str:
    rows = [
        (
            layer.name,
            layer.op,
            sentences.count(layer.macs),
            sentences.count(layer.parameters),
            sentences.size(layer.bytes),
        )
        for layer in cost.layers
    ]
    rows.append(
        (
            f"{cost.nodes} nodes",
            "",
            sentences.count(cost.macs),
            sentences.count(cost.parameters),
            sentences.size(cost.bytes),
        )
    )
    listing = table(rows, head=("layer", "operator", "MACs", "parameters", "bytes"), right=(2, 3, 4))
    if cost.peak_activation_bytes is None:
        return listing
    return joined([listing, f"peak activation memory: {sentences.size(cost.peak_activation_bytes)}"])
