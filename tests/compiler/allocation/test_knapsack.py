"""The exact knapsack: against brute force, at its limits, and on sizes that brute force never ends on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphpress.allocation import Allocation, Item, knapsack, pareto

RESOURCES = ("bytes", "seconds", "watts")


@st.composite
def problems(draw):
    """Up to six items of up to four choices, with up to three limits; small whole numbers, so that ties abound."""
    resources = RESOURCES[: draw(st.integers(1, 3))]
    figures = st.one_of(st.integers(0, 4), st.floats(0, 4, allow_subnormal=False))
    items = {}
    for number in range(draw(st.integers(1, 6))):
        count = draw(st.integers(1, 4))
        damage = [draw(figures) for _ in range(count)]
        if count > 1 and draw(st.booleans()):
            damage[0] = math.inf
        costs = {name: [draw(figures) for _ in range(count)] for name in resources}
        items[f"item{number}"] = Item(tuple("abcd"[:count]), damage, costs)
    most = {name: sum(max(item.costs[name]) for item in items.values()) for name in resources}
    return items, {name: draw(st.floats(0, 1)) * most[name] for name in resources}


def by_brute_force(items, limits):
    """The least damage of all combinations within the limits; None where there is none."""
    best = None
    for picks in itertools.product(*(range(len(item.choices)) for item in items.values())):
        pairs = list(zip(items.values(), picks, strict=True))
        damage = sum(item.damage[pick] for item, pick in pairs)
        costs = {name: sum(item.costs[name][pick] for item, pick in pairs) for name in limits}
        if math.isfinite(damage) and all(costs[name] <= limits[name] * (1 + 1e-9) for name in limits):
            best = damage if best is None else min(best, damage)
    return best


@settings(max_examples=300, deadline=None)
@given(problems())
@example(({"a": Item("xy", (0.0, 1.0), {"bytes": (2, 1)})}, {"bytes": 1}))
@example(({"a": Item("xy", (0.0, 1.0), {"bytes": (2, 0)})}, {"bytes": 0}))
def test_exactly_the_best_of_all_choices(problem):
    items, limits = problem
    wanted, best = by_brute_force(items, limits), knapsack(items, limits)
    assert best.met == (wanted is not None)
    if wanted is not None:
        assert best.damage == pytest.approx(wanted, rel=1e-9, abs=1e-12)
        assert best.optimal
        check(best, items, limits)


def check(best: Allocation, items, limits):
    """Damage, costs and limits are those of what was chosen."""
    picks = {name: item.choices.index(best.choices[name]) for name, item in items.items()}
    assert best.damage == pytest.approx(sum(items[name].damage[pick] for name, pick in picks.items()))
    for resource, limit in limits.items():
        assert best.costs[resource] == pytest.approx(sum(items[n].costs[resource][pick] for n, pick in picks.items()))
        assert best.costs[resource] <= limit * (1 + 2e-9)


def layers(count, seed=0, resources=("bytes",)):
    """Like bits of layers: damage grows as bits go, costs are in proportion to them."""
    rng = np.random.default_rng(seed)
    bits = (16, 8, 6, 5, 4, 3, 2)
    items = {}
    for number in range(count):
        damage = rng.lognormal(0, 2) * 4.0 ** -np.array(bits, float) * rng.uniform(0.5, 2, len(bits))
        damage[0] = 0.0
        sizes = {name: rng.integers(100, 10_000) * np.array(bits, float) for name in resources}
        items[f"layer{number}"] = Item(bits, damage, sizes)
    return items


@pytest.mark.parametrize("seed", range(3))
def test_hundreds_of_layers_are_solved_exactly_too(seed):
    items = layers(300, seed)
    limit = 0.3 * sum(item.costs["bytes"][0] for item in items.values())
    best = knapsack(items, {"bytes": limit})
    assert best.optimal
    check(best, items, {"bytes": limit})
    assert best.damage == pytest.approx(by_integer_program(items, {"bytes": limit}, best.damage), rel=1e-5)


def test_two_limits_at_once():
    items = layers(30, resources=("bytes", "seconds"))
    limits = {name: 0.35 * sum(item.costs[name][0] for item in items.values()) for name in ("bytes", "seconds")}
    best = knapsack(items, limits)
    assert best.optimal
    check(best, items, limits)
    assert best.damage == pytest.approx(by_integer_program(items, limits, best.damage), rel=1e-5)


def by_integer_program(items, limits, scale):
    """The optimum as another solver finds it, where that one is installed; its tolerances are absolute."""
    optimize = pytest.importorskip("scipy.optimize")
    damage = np.concatenate([item.damage for item in items.values()])
    owner = np.repeat(np.arange(len(items)), [len(item.choices) for item in items.values()])
    once = optimize.LinearConstraint(owner == np.arange(len(items))[:, None], 1, 1)
    within = [
        optimize.LinearConstraint(np.concatenate([item.costs[name] for item in items.values()]) / limit, -np.inf, 1)
        for name, limit in limits.items()
    ]
    solved = optimize.milp(
        damage / scale, constraints=[once, *within], integrality=1, bounds=(0, 1), options={"mip_rel_gap": 0}
    )
    return solved.fun * scale


def test_what_cannot_be_met_gives_the_cheapest_and_says_so():
    items = {"a": Item((8, 4), (0.0, 1.0), {"bytes": (8, 4)}), "b": Item((8, 2), (0.0, 9.0), {"bytes": (8, 2)})}
    best = knapsack(items, {"bytes": 5})
    assert best.choices == {"a": 4, "b": 2}
    assert not best.met
    assert not best.optimal
    assert best.bound == math.inf


def test_a_limit_that_is_given_up_on_is_said(monkeypatch):
    """With hardly any states left the result is good, and the bound honest."""
    items = layers(12, resources=("bytes", "seconds"))
    limits = {name: 0.35 * sum(item.costs[name][0] for item in items.values()) for name in ("bytes", "seconds")}
    exact = knapsack(items, limits)
    monkeypatch.setattr(pareto, "WIDTHS", (3,))
    rough = knapsack(items, limits)
    assert rough.met
    assert rough.bound <= exact.damage <= rough.damage
    assert not rough.optimal


def test_nothing_to_choose_and_nothing_to_limit():
    assert knapsack({}, {"bytes": 1}) == Allocation({}, 0.0, {"bytes": 0.0}, True, 0.0)
    free = knapsack({"a": Item("xy", (3.0, 1.0), {})}, {})
    assert free.choices == {"a": "y"}


def test_the_same_twice():
    items = layers(40)
    limits = {"bytes": 0.4 * sum(item.costs["bytes"][0] for item in items.values())}
    assert knapsack(items, limits) == knapsack(items, limits)


@pytest.mark.parametrize(
    ("damage", "costs", "why"),
    [
        ((1.0,), (1.0, 2.0), "shape"),
        ((1.0, float("nan")), (1.0, 2.0), "not a number"),
        ((1.0, 2.0), (1.0, float("inf")), "infinite"),
        ((1.0, 2.0), (1.0, -1.0), "negative"),
        ((1.0, -math.inf), (1.0, 2.0), "infinite"),
        ((math.inf, math.inf), (1.0, 2.0), "finite damage"),
    ],
)
def test_figures_that_make_no_sense_are_refused(damage, costs, why):
    with pytest.raises(ValueError, match=why):
        Item("xy", damage, {"bytes": costs})


@pytest.mark.parametrize("limit", [-1.0, math.nan])
def test_limits_that_make_no_sense_are_refused(limit):
    with pytest.raises(ValueError, match="bytes="):
        knapsack({"a": Item("x", (0.0,), {"bytes": (1,)})}, {"bytes": limit})


def test_an_infinite_limit_is_none():
    best = knapsack({"a": Item("xy", (0.0, 1.0), {"bytes": (9, 1)})}, {"bytes": math.inf})
    assert best.choices == {"a": "x"}


def test_an_item_without_a_limited_cost_is_named():
    with pytest.raises(ValueError, match="'a' says no cost of seconds"):
        knapsack({"a": Item("x", (0.0,), {"bytes": (1,)})}, {"seconds": 1})
