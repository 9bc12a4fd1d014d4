"""What the report says of decomposed layers: one record a layer, and a few sentences on all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from graphpress.analysis.cost import ModelCost
from graphpress.ir import Node, label
from graphpress.manager.records import DecomposedLayer
from graphpress.passes.lowrank._choices import RankChoice
from graphpress.passes.lowrank._decompose import Decomposition, SeenRows

MIN_ROWS = 4.0
"""Rows of data for each feature of a layer, below which its covariance is a rough one."""


def told_layers(
    nodes: Mapping[str, Node], chosen: Mapping[str, RankChoice], done: Decomposition
) -> list[DecomposedLayer]:
    """A record of each layer that was decomposed.

    Args:
        nodes: of the layers, by the names of their results.
        chosen: what they became.
        done: at which errors.
    """
    return [_told(nodes[name], chosen[name], done, name) for name in done.errors]


def _told(node: Node, choice: RankChoice, done: Decomposition, name: str) -> DecomposedLayer:
    cost, before = choice.cost, choice.replaced or choice.cost
    return DecomposedLayer(
        name=label(node),
        op=node.op_type,
        form=choice.form,
        ranks=choice.ranks,
        full_ranks=done.full_ranks[name],
        energy=done.energies[name],
        error=done.errors[name],
        macs_before=before.macs,
        macs=cost.macs,
        parameters_before=before.parameters,
        parameters=cost.parameters,
        seconds_before=before.seconds or None,
        seconds=cost.seconds or None,
    )


def summary(told: Sequence[DecomposedLayer], costs: tuple[ModelCost, ModelCost], count: int, blind: int) -> str:
    """All layers in a sentence.

    Args:
        told: the layers, at least one.
        costs: of the model before and after.
        count: of layers, each that shares a weight for itself.
        blind: how many of the records are of layers whose data was not seen.
    """
    before, after = costs
    forms = ", ".join(f"{number} {form}" for form, number in Counter(layer.form for layer in told).most_common())
    worst = max(told, key=lambda layer: layer.error)
    norm = "the variance of their outputs on the data" if blind < len(told) else "the energy of their weights"
    unseen = f"; {blind} in the norm of their weights" if 0 < blind < len(told) else ""
    macs = (
        f"{after.macs / before.macs:.1%} of the multiply-accumulates stay"
        if before.macs
        else f"{after.macs:,} multiply-accumulates are new"
    )
    shared = f" of {len(told)} weight{'s' * (len(told) > 1)}" if count != len(told) else ""
    median = np.median([layer.error for layer in told])
    head = f"{count} layer{'s' * (count > 1)}{shared} decomposed ({forms})"
    return (
        f"{head}; {after.parameters / max(before.parameters, 1):.1%} of the parameters stay, {macs}; of {norm} "
        f"{median:.2%} is lost at the median, {worst.error:.2%} at most ({worst.name}){unseen}"
    )


def wide_layers(nodes: Mapping[str, Node], wide: Mapping[str, int]) -> list[str]:
    """That layers have too many features to see how they vary together.

    Args:
        nodes: of the layers, by the names of their results.
        wide: by layer its features.
    """
    return [
        f"{label(nodes[name])}: its {features} inputs are weighed by their variances alone, for a Gram matrix of so "
        "many takes too much memory"
        for name, features in wide.items()
    ]


def scarcity(nodes: Mapping[str, Node], rows: Mapping[str, SeenRows], samples: int) -> list[str]:
    """That a layer saw few rows of the data, and how many samples would be enough for all.

    Args:
        nodes: of the layers, by the names of their results.
        rows: by layer, those that it saw.
        samples: in which it saw them.
    """
    name, seen = min(rows.items(), key=lambda item: item[1].rows / item[1].features, default=("", SeenRows(1, 0)))
    enough = MIN_ROWS * seen.features
    if seen.rows >= enough:
        return []
    return [
        f"few samples: {label(nodes[name])} has {seen.features} inputs and saw {seen.rows} rows of data in "
        f"{samples} samples; {math.ceil(samples * enough / seen.rows)} samples would show enough, of fewer its "
        "covariance is shrunk towards that of unrelated inputs"
    ]
