"""Second moments of gradient times weight over the slices of each unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from graphpress.coupling import Coupling, Place
from graphpress.ir import Model, Value, label
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._gradients import GradientOptions, stream_gradients
from graphpress.passes.prune.criteria._slices import Chosen, Shares, numbers, sizes_of, sum_slices
from graphpress.passes.prune.criteria.reduction import Share

Squared = Literal["element", "place", "group"]


def gate_moments(
    model: Model, coupling: Coupling, chosen: Chosen, context: Context, options: GradientOptions, squared: Squared
) -> Shares:
    """Means over the micro-batches of squared products of gradient and weight.

    Args:
        model: not changed.
        coupling: its groups.
        chosen: the places that count; those that are no initialiser have no gradient and don't.
        context: data, seed and threads.
        options: which gradients are taken.
        squared: each ``element`` by itself, then summed; the sum over each ``place``; or the sum over the whole
            ``group``, which is then one share.
    """
    trained = {name: _initialisers(places) for name, places in chosen.items()}
    names = {label(place.value) for places in trained.values() for place in places}
    sizes, totals, count = sizes_of(coupling), Shares(), 0
    for gradients in stream_gradients(model, names, context, options):
        products = sum_slices(trained, sizes, _product(gradients, squared))
        for name, shares in products.items():
            found = _squares(shares, squared)
            totals[name] = found if name not in totals else _sum(totals[name], found)
        count += 1
    return {
        name: [Share(one.scores / max(count, 1), one.elements) for one in shares] for name, shares in totals.items()
    }


def _initialisers(places: list[Place]) -> list[Place]:
    return [place for place in places if place.value.is_initializer()]


def _product(gradients: dict[str, np.ndarray], squared: Squared) -> Callable[[Value], np.ndarray]:
    def measure(value: Value) -> np.ndarray:
        gradient = gradients.get(label(value))
        weight = numbers(value)
        product = np.zeros(weight.shape, weight.dtype) if gradient is None else gradient * weight
        return np.square(product) if squared == "element" else product

    return measure


def _squares(shares: list[Share], squared: Squared) -> list[Share]:
    if squared == "element" or not shares:
        return shares
    if squared == "place":
        return [Share(np.square(share.scores), share.elements) for share in shares]
    scores = np.sum([share.scores for share in shares], axis=0)
    return [Share(np.square(scores), np.sum([share.elements for share in shares], axis=0))]


def _sum(old: list[Share], new: list[Share]) -> list[Share]:
    return [Share(one.scores + two.scores, one.elements) for one, two in zip(old, new, strict=True)]
