"""Plans are tried on copies before one is carried out: the least damage wins, and what was measured is said."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from graphpress.analysis.cost import model_cost
from graphpress.coupling import couple, remove
from graphpress.data import Feed
from graphpress.data.feeds import FeedSamples
from graphpress.deadline import Deadline, OutOfTimeError
from graphpress.errors import ModelError
from graphpress.ir import Model, clone, serialize
from graphpress.manager.contract import Context, Outcome
from graphpress.manager.transaction import Transaction
from graphpress.models import build
from graphpress.passes.prune import _planner
from graphpress.passes.prune._drafts import kept_units
from graphpress.passes.prune._trial import PlanTrial
from graphpress.passes.prune.prune import Prune
from graphpress.runtime import InputSpec
from graphpress.targets import load_target


@pytest.fixture(scope="module")
def network() -> Model:
    return build("resnet", depth=8, stem="cifar", width=8, image=16)


def feeds(model: Model) -> list[Feed]:
    images = np.random.default_rng(0).normal(size=(48, 3, 16, 16)).astype(np.float32)
    return [{model.graph.inputs[0].name or "": images[start : start + 16]} for start in range(0, 48, 16)]


def about(model: Model, **more) -> Context:
    return Context(load_target("cpu"), model, calibration=feeds(model), step="0", **more)


def pruned(model: Model, context: Context, **fields) -> tuple[Model, Outcome]:
    smaller = clone(model)
    return smaller, Prune(**{"macs_kept": 0.5, "criterion": "l2", **fields}).run(smaller, context)


def tried(outcome: Outcome) -> str:
    return next((note for note in outcome.notes if "damage after" in note), "")


@pytest.fixture
def harm(monkeypatch) -> dict[str, float]:
    """What each allocation is said to do; above 50 the model is ruined. The measuring has a test of its own."""
    harms = {"latency": 0.2, "sensitivity": 0.1, "uniform": 0.05}
    monkeypatch.setattr(
        _planner.Planner, "_try", lambda self, plan, trial: self._tried.append((harms[plan.strategy], plan))
    )
    monkeypatch.setattr(PlanTrial, "is_absurd", lambda self, damage: damage > 50)
    return harms


def test_the_plan_of_least_damage_is_carried_out_and_said(network, harm):
    smaller, outcome = pruned(network, about(network))
    wanted, _ = pruned(network, about(network), allocation="sensitivity")
    assert serialize(smaller) == serialize(wanted)
    assert "0.2 by l2 with allocation latency, 0.1 by l2 with allocation sensitivity" in tried(outcome)
    assert "l2 with allocation sensitivity was carried out" in tried(outcome)


def test_a_sane_plan_needs_no_last_resort(network, harm):
    assert "uniform" not in tried(pruned(network, about(network))[1])


def test_where_plans_ruin_the_model_the_same_fraction_everywhere_is_tried(network, harm):
    harm |= {"latency": 90.0, "sensitivity": 80.0}
    smaller, outcome = pruned(network, about(network))
    wanted, _ = pruned(network, about(network), allocation="uniform")
    assert serialize(smaller) == serialize(wanted)
    assert "l2 with allocation uniform was carried out" in tried(outcome)
    assert "ask for less" not in tried(outcome)


def test_a_plan_that_ruins_the_model_all_the_same_is_called_that(network, harm):
    harm |= {"latency": 90.0, "sensitivity": 80.0, "uniform": 70.0}
    assert "leaves little of what the model knew: ask for less" in tried(pruned(network, about(network))[1])


def test_a_replay_follows_the_choice_and_measures_nothing(network, harm, monkeypatch):
    context = about(network)
    first, outcome = pruned(network, context)
    monkeypatch.setattr(PlanTrial, "of", lambda *_: pytest.fail("measured again"))
    second, again = pruned(network, about(network, decisions=context.decisions))
    assert serialize(second) == serialize(first)
    assert tried(again) == tried(outcome)


def test_what_leaves_no_choice_is_not_tried(network):
    assert not tried(pruned(network, about(network), allocation="latency")[1])


def test_a_ratio_is_the_same_fraction_everywhere_unless_a_rival_at_its_cost_does_less_damage(network, harm):
    def by_ratio(**fields):
        return pruned(network, about(network), macs_kept=None, ratio=0.5, **fields)

    uniform, _ = by_ratio(allocation="uniform")
    assert serialize(by_ratio()[0]) == serialize(uniform)
    harm["uniform"] = 0.3
    smaller, outcome = by_ratio()
    kept = model_cost(uniform).macs / model_cost(network).macs
    wanted, _ = pruned(network, about(network), macs_kept=kept, allocation="sensitivity")
    assert serialize(smaller) == serialize(wanted)
    assert 0.9 * kept < model_cost(smaller).macs / model_cost(network).macs <= kept
    assert "0.3 by l2 with allocation uniform, 0.2 by l2 with allocation latency" in tried(outcome)
    harm["uniform"] = 0.0
    assert "latency" not in tried(by_ratio()[1]), "nothing is left to win"


def test_a_replay_of_a_ratio_follows_its_rival(network, harm, monkeypatch):
    harm["uniform"] = 0.3
    context = about(network)
    first, outcome = pruned(network, context, macs_kept=None, ratio=0.5)
    monkeypatch.setattr(PlanTrial, "of", lambda *_: pytest.fail("measured again"))
    again = about(network, decisions=context.decisions)
    second, said = pruned(network, again, macs_kept=None, ratio=0.5)
    assert serialize(second) == serialize(first)
    assert tried(said) == tried(outcome)


def test_every_step_is_tried_and_repaired_before_the_next(network):
    damages = {}
    for recover in (True, False):
        context = replace(about(network), transaction=Transaction(clone(network)))
        smaller, outcome = pruned(network, context, steps=2, recover=recover)
        assert sum("damage after" in note for note in outcome.notes) == 2
        assert sum("between steps" in note for note in outcome.notes) == recover
        damages[recover] = PlanTrial.of(network, about(network)).measure.damage(smaller)
    assert damages[True] < damages[False]


def test_a_later_step_is_judged_by_the_model_before_all_steps(network):
    context = replace(about(network), transaction=Transaction(clone(network)))
    pruned_once, _ = pruned(network, context, allocation="uniform")
    trial = PlanTrial.of(pruned_once, context)
    assert trial.damage(clone(pruned_once), {}) > 1e-6


def test_trials_end_with_a_part_of_the_time(network):
    context = about(network, deadline=Deadline(time.monotonic() - 10, 10.0))
    smaller, outcome = pruned(network, context)
    assert any("could not be measured beforehand: the time limit" in note for note in outcome.notes)
    assert serialize(smaller) == serialize(pruned(network, about(network), allocation="latency")[0])


def test_the_best_of_those_that_were_tried_in_time_is_carried_out(network, harm, monkeypatch):
    def out_of_time(*_: object) -> None:
        raise OutOfTimeError

    monkeypatch.setattr(_planner.Planner, "_rival", out_of_time)
    smaller, outcome = pruned(network, about(network))
    assert "0.2 by l2 with allocation latency; l2 with allocation latency was carried out" in tried(outcome)
    assert "no more were tried: the time limit" in tried(outcome)
    assert serialize(smaller) == serialize(pruned(network, about(network), allocation="latency")[0])


def test_without_data_nothing_is_tried(network):
    assert not tried(pruned(network, replace(about(network), calibration=None))[1])


def test_a_trial_that_would_take_too_long_is_left_out(network, monkeypatch):
    monkeypatch.setattr(_planner, "MAX_MACS", 1.0)
    smaller, outcome = pruned(network, about(network))
    assert not tried(outcome)
    assert serialize(smaller) == serialize(pruned(network, about(network), allocation="latency")[0])


def test_a_trial_that_fails_is_said_and_the_first_plan_carried_out(network, monkeypatch):
    def fail(*_: object) -> float:
        raise ModelError("Foo cannot be run", where="foo", fix="none")

    monkeypatch.setattr(PlanTrial, "damage", fail)
    smaller, outcome = pruned(network, about(network))
    assert any("could not be measured beforehand: Foo cannot be run" in note for note in outcome.notes)
    assert serialize(smaller) == serialize(pruned(network, about(network), allocation="latency")[0])


def test_what_a_trial_judges_by_was_not_repaired_on(network):
    images = np.random.default_rng(0).normal(size=(40, 3, 16, 16)).astype(np.float32)
    name = network.graph.inputs[0].name or ""
    data = FeedSamples(
        [{name: image[None]} for image in images], [InputSpec(name, np.dtype(np.float32), (1, 3, 16, 16))]
    )
    trial = PlanTrial.of(network, replace(about(network), calibration=data))
    repaired, judged = (
        {image.tobytes() for feed in feeds for image in feed[name]}
        for feeds in (trial.context.calibration, trial.measure.feeds)
    )
    assert len(repaired) == len(judged) == 20
    assert not repaired & judged


def test_a_trial_repairs_the_copy_and_compares_it_with_the_model(network):
    trial, coupling = PlanTrial.of(network, about(network)), couple(network)
    damages = []
    for left in (1.0, 0.75, 0.25):
        copy = clone(network)
        counts = {group.name: max(1, round(left * group.size)) for group in coupling.groups}
        scores = {group.name: np.arange(group.size) for group in coupling.groups}
        raw = clone(network)
        remove(raw, couple(raw), kept_units(scores, counts))
        damages.append(trial.damage(copy, remove(copy, couple(copy), kept_units(scores, counts))))
        assert damages[-1] <= trial.measure.damage(raw)
    assert damages[0] == pytest.approx(0, abs=1e-6)
    assert damages[0] < damages[1] < damages[2]
    assert trial.is_absurd(trial.measure.constant)
    assert not trial.is_absurd(0.0)
