"""``optimize inspect MODEL``: the graph as text, or what each layer costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graphpress.cli.options import debug_option, json_option
from graphpress.cli.text import echo_json, printable, table
from graphpress.report import words

if TYPE_CHECKING:
    from graphpress.analysis.cost import ModelCost


@click.command("inspect")
@click.argument("model")
@click.option("--cost", is_flag=True, help="Show what each layer costs instead of the graph.")
@json_option
@debug_option
def inspect(model: str, cost: bool, as_json: bool) -> None:
    """Print a model as text, or what its layers cost."""
    from graphpress.analysis.cost import model_cost
    from graphpress.ir import load

    graph = load(model)
    if as_json:
        echo_json(model_cost(graph))
    elif cost:
        click.echo(_cost_table(model_cost(graph)))
    else:
        from graphpress.ir.printer import print_model

        click.echo(printable(print_model(graph).rstrip("\n")))


def _cost_table(cost: ModelCost) -> str:
    rows = [
        (
            printable(layer.name),
            printable(layer.op),
            words.count(layer.macs),
            words.count(layer.parameters),
            words.size(layer.bytes),
        )
        for layer in cost.layers
    ]
    rows.append(
        (f"{cost.nodes} nodes", "", words.count(cost.macs), words.count(cost.parameters), words.size(cost.bytes))
    )
    listing = table(rows, head=("layer", "operator", "MACs", "parameters", "bytes"), right=(2, 3, 4))
    if cost.peak_activation_bytes is None:
        return listing
    return f"{listing}\npeak activation memory: {words.size(cost.peak_activation_bytes)}"
