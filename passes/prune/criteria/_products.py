"""Second moments of gradient times weight over the slices of each unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from graphpress.coupling import Coupling
from graphpress.ir import Model, Value, label
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._gradients import GradientOptions, stream_gradients
from graphpress.passes.prune.criteria._reduction import Share
from graphpress.passes.prune.criteria._slices import Chosen, Shares, numbers, sizes_of, sum_slices

Squared = Literal["element", "place", "group"]


def gate_moments(
    model: Model, coupling: Coupling, chosen: Chosen, context: Context, options: GradientOptions, squared: Squared
) -> Shares:
    """Mean squares of products of gradient and weight.

    With the labels of the data as targets: of the mean gradient of a micro-batch, averaged over micro-batches. With
    drawn targets: of the gradients of single samples. These follow from micro-batches as well, for targets that are
    drawn independently have gradients that are uncorrelated: E(Σ g_n)² = Σ E g_n².

    Args:
        model: not changed.
        coupling: its groups.
        chosen: the places that count; those that are no trainable initializer have no gradient and don't.
        context: data, seed and threads.
        options: which gradients are taken.
        squared: each ``element`` by itself, then summed; the sum over each ``place``; or the sum over the whole
            ``group``, which is then one share.
    """
    names = {label(place.value) for places in chosen.values() for place in places}
    trained, totals, count = dict(chosen), Shares(), 0
    for rows, gradients in stream_gradients(model, names, context, options):
        if not count:
            trained = {
                name: [place for place in places if label(place.value) in gradients] for name, places in chosen.items()
            }
        weight = rows if options.targets == "labels" else rows**2
        for name, shares in sum_slices(trained, sizes_of(coupling), _product(gradients, squared)).items():
            products = [replace(share, scores=weight * share.scores) for share in _squares(shares, squared)]
            totals[name] = products if name not in totals else _sum(totals[name], products)
        count += rows
    return {name: [replace(share, scores=share.scores / count) for share in shares] for name, shares in totals.items()}


def _product(gradients: dict[str, np.ndarray], squared: Squared) -> Callable[[Value], np.ndarray]:
    def measure(value: Value) -> np.ndarray:
        product: np.ndarray = gradients[label(value)] * numbers(value)
        return np.square(product) if squared == "element" else product

    return measure


def _squares(shares: list[Share], squared: Squared) -> list[Share]:
    if squared == "element" or not shares:
        return shares
    if squared == "place":
        return [replace(share, scores=np.square(share.scores)) for share in shares]
    scores = np.sum([share.scores for share in shares], axis=0)
    return [Share(np.square(scores), np.sum([share.elements for share in shares], axis=0))]


def _sum(old: list[Share], new: list[Share]) -> list[Share]:
    return [replace(before, scores=before.scores + after.scores) for before, after in zip(old, new, strict=True)]
