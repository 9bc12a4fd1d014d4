"""Coupled costs: a chain of layers, each of which costs what it reads times what it writes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.allocation import Item, descend, knapsack, ranking, sizes_at, uniform


class Chain:
    """Layers in a row; items are the widths between them. ``coupled`` or, with every other width fixed, a plain sum."""

    def __init__(self, widths, coupled=True):
        self.widths, self.coupled = dict(widths), coupled
        self.unchanged = dict(widths)
        self.trials = 0
        self.full = self._cost(self.widths)

    def _cost(self, widths):
        if not self.coupled:
            return float(sum(widths.values()))
        row = [3, *widths.values(), 5]
        return float(sum(read * written for read, written in itertools.pairwise(row)))

    @property
    def current(self):
        return self._cost(self.widths)

    @property
    def sizes(self):
        return dict(self.widths)

    def trial(self, item, size):
        self.trials += 1
        return self._cost({**self.widths, item: size})

    def resize(self, sizes):
        self.widths.update(sizes)


def downwards(widths):
    return {name: np.arange(width, 0, -1) for name, width in widths.items()}


def scores_of(widths, seed):
    rng = np.random.default_rng(seed)
    return {name: np.sort(rng.gamma(1.0, 1.0, width)) for name, width in widths.items()}


def damage_of(scores):
    return {name: np.concatenate([[0.0], np.cumsum(units)])[:-1] for name, units in scores.items()}


@pytest.fixture
def widths():
    return {f"width{number}": width for number, width in enumerate((12, 20, 8))}


def solvers(widths, seed=0):
    scores = scores_of(widths, seed)
    sizes = downwards(widths)
    return {
        "descend": lambda costs, limit: descend(sizes, damage_of(scores), costs, limit),
        "ranking": lambda costs, limit: ranking(sizes, scores, costs, limit),
        "uniform": lambda costs, limit: uniform(sizes, costs, limit),
    }


@pytest.mark.parametrize("solver", ["descend", "ranking", "uniform"])
def test_limits_are_met_and_the_cost_model_is_left_at_the_result(widths, solver):
    for fraction in (1.0, 0.7, 0.3, 0.15):
        costs = Chain(widths)
        limit = fraction * costs.full
        sizes = solvers(widths)[solver](costs, limit)
        assert costs.current <= limit
        assert sizes == costs.sizes
        assert list(sizes) == list(widths)
        assert fraction < 1 or sizes == widths


@pytest.mark.parametrize("solver", ["descend", "ranking", "uniform"])
def test_what_cannot_be_met_ends_at_the_smallest(widths, solver):
    costs = Chain(widths)
    assert solvers(widths)[solver](costs, 1.0) == dict.fromkeys(widths, 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(3, 7), min_size=2, max_size=4), st.integers(0, 10_000), st.floats(0.2, 0.9))
def test_greedy_is_near_the_best_of_all_sizes(row, seed, fraction):
    widths = {f"width{number}": width for number, width in enumerate(row)}
    costs, damage = Chain(widths), damage_of(scores_of(widths, seed))
    limit, best = fraction * costs.full, math.inf
    for sizes in itertools.product(*(range(1, width + 1) for width in widths.values())):
        costs.resize(dict(zip(widths, sizes, strict=True)))
        if costs.current <= limit:
            harm = sum(damage[name][widths[name] - size] for name, size in costs.sizes.items())
            best = min(best, harm)
    costs.resize(widths)
    sizes = descend(downwards(widths), damage, costs, limit)
    harm = sum(damage[name][widths[name] - size] for name, size in sizes.items())
    if math.isfinite(best):
        largest = max(np.diff(curve).max() for curve in damage.values())
        assert best - 1e-9 <= harm <= 1.05 * best + largest


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=6), st.integers(0, 10_000), st.floats(0.2, 1.0))
def test_greedy_is_never_better_than_exact_where_costs_add_up(row, seed, fraction):
    widths = {f"width{number}": width for number, width in enumerate(row)}
    damage, costs = damage_of(scores_of(widths, seed)), Chain(widths, coupled=False)
    limit = max(fraction * costs.full, len(row))
    items = {
        name: Item(tuple(choices.tolist()), damage[name], {"width": choices})
        for name, choices in downwards(widths).items()
    }
    exact = knapsack(items, {"width": limit})
    sizes = descend(downwards(widths), damage, costs, limit)
    assert exact.optimal
    assert exact.damage <= sum(damage[name][widths[name] - size] for name, size in sizes.items()) + 1e-9


def test_a_step_asks_for_few_costs():
    """A hundred layers are done in a few evaluations each."""
    widths = {f"width{number}": 64 for number in range(100)}
    costs = Chain(widths)
    descend(downwards(widths), damage_of(scores_of(widths, 0)), costs, 0.5 * costs.full)
    assert costs.trials < 100 * 64


def test_sizes_at_a_fraction_are_the_nearest_and_the_larger_of_two():
    assert sizes_at({"a": np.array([8, 4]), "b": np.array([5, 3, 1])}, 0.75) == {"a": 8, "b": 3}
