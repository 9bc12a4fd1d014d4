"""The loop that makes a speed-up hold: search, replay, refusals. No assertion rests on how long anything took."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from graphpress.allocation import Goal, speedup
from graphpress.analysis.shapes import infer_shapes
from graphpress.coupling import couple, remove
from graphpress.coupling.cost import GroupCosts
from graphpress.errors import UsageError
from graphpress.ir import clone
from graphpress.manager.contract import Context
from graphpress.models import build
from graphpress.passes._probe import probe_feed
from graphpress.passes.prune import _speed
from graphpress.passes.prune._limits import Limits
from graphpress.passes.prune._plan import CountPlan
from graphpress.passes.prune._speed import allocate
from graphpress.targets import load_target

PLAN = CountPlan(Goal("speedup", 2.0), "uniform", limits=Limits(floor=0.05))


@pytest.fixture
def network():
    model = build("resnet", stem="cifar", depth=8, image=16, width=32)
    infer_shapes(model)
    return model


@pytest.fixture
def costs(network):
    return GroupCosts(network, couple(network))


@pytest.fixture
def realize(network):
    def cut(counts):
        copy = clone(network)
        coupling = couple(copy)
        remove(copy, coupling, {group.name: np.arange(group.size) < counts[group.name] for group in coupling.groups})
        return copy

    return cut


@pytest.fixture
def clock(monkeypatch):
    """A machine that takes the times it is told; how often it was asked is counted."""
    told = SimpleNamespace(ratios=[], asked=0)

    def compare(first, second, *, seconds):
        first(), second()
        told.asked += 1
        return SimpleNamespace(ratio=told.ratios[told.asked - 1], low=1.0, high=1.0)

    monkeypatch.setattr(speedup, "compare_latency", compare)
    monkeypatch.setattr(_speed, "undisturbed_latency", lambda call: 1.0)
    monkeypatch.setattr(_speed, "measured_price", lambda *about: lambda call, layer: 1e-9 * layer.macs)
    return told


def context(model, **more):
    return Context(load_target("cpu"), model, **more)


def test_measured_end_to_end_it_is_near_what_was_asked_or_says_so(network, costs, realize):
    about = context(network)
    chosen = allocate(PLAN, network, costs, about, realize)
    assert "measured after" in chosen.notes[0]
    assert (chosen.shortfall is None) == (chosen.kept <= 0.55)
    assert set(chosen.counts) == set(costs.sizes)
    assert about.decisions["0.prune.counts"]["counts"] == chosen.counts


def test_stops_when_it_is_near_enough(network, costs, realize, clock):
    clock.ratios = [0.7, 0.45, 0.51]
    chosen = allocate(PLAN, network, costs, context(network), realize)
    assert chosen.kept == 0.51
    assert clock.asked == 3
    assert chosen.shortfall is None


def test_gives_the_best_of_its_rounds_and_says_what_is_missing(network, costs, realize, clock):
    clock.ratios = [0.9, 0.8, 0.7, 0.75, 0.8, 0.9] * 2
    chosen = allocate(PLAN, network, costs, context(network), realize)
    assert chosen.kept == 0.7
    assert clock.asked <= speedup.ROUNDS
    assert "the best that was measured is speedup 1.429" in chosen.shortfall.why


def test_a_model_of_which_nothing_goes_is_not_timed_and_does_not_reach_the_goal(network, costs, realize, clock):
    clock.ratios = [0.3] * 6
    chosen = allocate(replace(PLAN, limits=Limits(floor=1.0)), network, costs, context(network), realize)
    assert chosen.counts == costs.sizes
    assert clock.asked == 0
    assert chosen.kept == 1.0
    assert chosen.notes == ()
    assert "speedup 2.000 was not reached: nothing was removed" in chosen.shortfall.why


def test_a_replay_follows_the_decision_and_measures_nothing(network, costs, realize, clock):
    clock.ratios = [0.5]
    about = context(network)
    first = allocate(PLAN, network, costs, about, realize, key="here")
    again = allocate(PLAN, network, costs, context(network, decisions=about.decisions), realize, key="here")
    assert again.counts == first.counts
    assert clock.asked == 1


def test_what_was_missing_is_said_in_a_replay_too(network, costs, realize, clock):
    clock.ratios = [0.9] * 6
    about = context(network)
    first = allocate(PLAN, network, costs, about, realize)
    again = allocate(PLAN, network, costs, context(network, decisions=about.decisions), realize)
    assert first.shortfall is not None
    assert again.shortfall == first.shortfall


def test_a_decision_about_other_groups_is_not_followed(network, costs, realize, clock):
    clock.ratios = [0.5]
    decisions = {"here": {"counts": {"elsewhere": 3}, "kept": 0.5, "notes": [], "missing": None}}
    chosen = allocate(PLAN, network, costs, context(network, decisions=decisions), realize, key="here")
    assert set(chosen.counts) == set(costs.sizes)
    assert clock.asked == 1


def test_another_target_is_modelled_and_says_so(network, costs, realize):
    about = Context(load_target("raspberrypi5"), network)
    chosen = allocate(PLAN, network, costs, about, realize)
    assert chosen.kept <= 0.5 + 1e-9
    assert "as modelled for raspberrypi5, not measured" in chosen.notes[0]
    with pytest.raises(UsageError, match="states no peak rate"):
        allocate(PLAN, network, costs, Context(load_target("arm64"), network), realize)


def test_other_goals_are_not_measured(network, costs, realize):
    about = context(network)
    chosen = allocate(CountPlan(Goal("macs_kept", 0.5)), network, costs, about, realize)
    assert chosen.kept <= 0.5
    assert about.decisions == {}


def test_one_sample_is_enough_to_measure_with(network):
    data = [{"input": np.ones((8, 3, 16, 16), np.float32)}]
    assert probe_feed(network, context(network, calibration=data))["input"].shape == (1, 3, 16, 16)
    assert probe_feed(network, context(network))["input"].shape == (1, 3, 16, 16)
    fixed = build("resnet", stem="cifar", depth=8, image=16, batch=4)
    data = [{"input": np.ones((4, 3, 16, 16), np.float32)}]
    assert probe_feed(fixed, context(fixed, calibration=data))["input"].shape == (4, 3, 16, 16)
