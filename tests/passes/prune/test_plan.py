"""Strategies: goals are met as nearly as counts allow, within the limits, and a tighter goal never costs more."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.allocation import Curve, Goal
from graphpress.analysis.shapes import infer_shapes
from graphpress.coupling import couple
from graphpress.coupling.cost import GroupCosts
from graphpress.errors import UsageError
from graphpress.models import build
from graphpress.models.builder import Builder
from graphpress.passes.prune._costs import CountCosts
from graphpress.passes.prune._limits import Limits
from graphpress.passes.prune._plan import CountPlan

STRATEGIES = ("uniform", "global", "sensitivity", "latency")


def costs_of(model):
    infer_shapes(model)
    return GroupCosts(model, couple(model))


def drawn_scores(costs, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.gamma(1.0, 1.0, size) * rng.uniform(0.5, 2) for name, size in costs.sizes.items()}


def damage(scores, counts):
    return sum(np.sort(scores[name])[: len(scores[name]) - count].sum() for name, count in counts.items())


@pytest.fixture(scope="module")
def network():
    return build("resnet", depth=18, width=32, batch=1)


@pytest.fixture
def costs(network):
    return costs_of(network)


@pytest.fixture(scope="module")
def scores(network):
    return drawn_scores(costs_of(network))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("goal", [Goal("macs_kept", 0.5), Goal("params_kept", 0.3), Goal("ratio", 0.5)], ids=str)
def test_the_goal_is_met_and_hardly_more(costs, scores, strategy, goal):
    chosen = CountPlan(goal, strategy, scores).counts(costs)
    assert chosen.shortfall is None
    assert goal.budget * 0.97 < chosen.kept <= goal.budget + 1e-9
    assert chosen.kept == CountCosts(costs, goal).kept
    assert chosen.counts == costs.counts
    assert list(chosen.counts) == list(costs.sizes)


def test_a_uniform_ratio_is_that_of_every_group(costs):
    chosen = CountPlan(Goal("ratio", 0.25)).counts(costs)
    assert chosen.counts == {name: size * 3 // 4 for name, size in costs.sizes.items()}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_limits_hold(costs, scores, strategy):
    limits = Limits(floor=0.3, multiple=16)
    chosen = CountPlan(Goal("macs_kept", 0.2), strategy, scores, limits=limits).counts(costs)
    for name, count in chosen.counts.items():
        assert count % 16 == 0
        assert count >= 0.3 * costs.sizes[name]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_cannot_be_is_said_with_the_best_that_can(costs, scores, strategy):
    chosen = CountPlan(Goal("macs_kept", 0.001), strategy, scores, limits=Limits(floor=0.25)).counts(costs)
    assert chosen.counts == {name: -(-size // 4) for name, size in costs.sizes.items()}
    assert "cannot be reached" in chosen.shortfall.why
    assert f"macs_kept {chosen.kept:.3f}" in chosen.shortfall.why


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_tighter_goal_keeps_less(network, scores, strategy):
    costs = costs_of(network)
    plans = [CountPlan(Goal("macs_kept", amount), strategy, scores) for amount in np.linspace(0.95, 0.05, 19)]
    kept = [plan.counts(costs).kept for plan in plans]
    assert kept == sorted(kept, reverse=True)
    assert CountPlan(Goal("macs_kept", 1.0), strategy, scores).counts(costs).counts == costs.sizes


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_twice(network, scores, strategy):
    plan = CountPlan(Goal("params_kept", 0.4), strategy, scores)
    assert plan.counts(costs_of(network)) == plan.counts(costs_of(network))


def test_the_lowest_scores_go_first_over_all_groups(costs, scores):
    chosen = CountPlan(Goal("ratio", 0.4), "global", scores, limits=Limits(floor=0.0)).counts(costs)
    ordered = {name: np.sort(scores[name]) for name in scores}
    gone = max(ordered[name][len(ordered[name]) - count - 1] for name, count in chosen.counts.items())
    left = min(ordered[name][-count] for name, count in chosen.counts.items())
    assert gone <= left


def test_least_damage_for_what_is_saved(network, scores):
    costs = costs_of(network)
    goal = Goal("macs_kept", 0.5)
    harm = {name: damage(scores, CountPlan(goal, name, scores).counts(costs).counts) for name in STRATEGIES}
    assert harm["latency"] < 0.9 * harm["global"]
    assert harm["latency"] < 0.9 * harm["uniform"]


def test_measured_curves_decide_where_they_are_known(network, scores):
    costs = costs_of(network)
    costly, free = list(costs.sizes)[:2]
    fractions = np.array([0.25, 0.5, 0.75])
    curves = {costly: Curve(fractions, np.full(3, 1e6)), free: Curve(fractions, np.zeros(3))}
    chosen = CountPlan(Goal("macs_kept", 0.6), "sensitivity", scores, curves).counts(costs)
    assert chosen.counts[costly] == costs.sizes[costly]
    assert chosen.counts[free] == Limits().counts(costs)[free][-1]


def test_seconds_count_for_a_speedup(costs, scores):
    priced = costs.priced(lambda call, layer: float(layer.traffic))
    chosen = CountPlan(Goal("speedup", 1.5), "latency", scores).counts(priced)
    assert 1.5 <= 1 / chosen.kept < 1.55
    assert priced.totals.traffic / priced.full.traffic == pytest.approx(chosen.kept)


def layers_of(widths):
    b = Builder("perceptron")
    x, read = b.input("x", [1, 6]), 6
    for index, width in enumerate((*widths, 5)):
        with b.scope(f"layer{index}"):
            x, read = b.node("Relu", b.linear(x, (read, width))), width
    b.output(x, "y", [1, 5])
    return b.finish()


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(4, 7), min_size=2, max_size=3),
    st.integers(0, 10_000),
    st.floats(0.25, 0.9),
)
def test_near_the_best_of_all_allocations(widths, seed, budget):
    """Integral steps of tiny layers are coarse; beside that, the exhaustive best is hardly better."""
    costs = costs_of(layers_of(widths))
    scores = drawn_scores(costs, seed)
    choices = Limits().counts(costs)
    best = np.inf
    for counts in itertools.product(*choices.values()):
        allocation = {name: int(count) for name, count in zip(choices, counts, strict=True)}
        if costs.keep_all(allocation).macs <= budget * costs.full.macs:
            best = min(best, damage(scores, allocation))
    chosen = CountPlan(Goal("macs_kept", budget), "latency", scores).counts(costs)
    assert chosen.shortfall is None
    largest = max(array.max() for array in scores.values())
    assert damage(scores, chosen.counts) <= 1.05 * best + largest


def test_time_grows_with_the_groups(work):
    def calls(blocks):
        costs = costs_of(build("resnet", stem="cifar", depth=6 * blocks + 2, image=8, batch=1))
        plan = CountPlan(Goal("macs_kept", 0.5), "latency", drawn_scores(costs))
        return work(lambda: plan.counts(costs))

    assert calls(12) < 6 * calls(3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Goal("speedup", 0.5), "speedup=0.5"),
        (lambda: Goal("ratio", 1.0), "ratio=1"),
        (lambda: Goal("macs_kept", 0.0), "macs_kept=0"),
        (lambda: Goal("macs_kept", float("nan")), "macs_kept=nan"),
        (lambda: Goal("weight", 0.5), "no such goal"),
        (lambda: Limits(floor=2), "floor=2"),
        (lambda: Limits(multiple=0), "multiple=0"),
        (lambda: CountPlan(Goal("ratio", 0.5), "unifrom"), "no such strategy"),
    ],
)
def test_nonsense_is_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()
