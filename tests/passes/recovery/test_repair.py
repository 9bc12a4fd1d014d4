"""Repair by trial: the one of least damage on samples that no trial saw stays, and the notes say what was measured."""

import re
import time

import numpy as np
import pytest

from graphpress.deadline import Deadline, OutOfTimeError
from graphpress.errors import UsageError
from graphpress.ir import Editor, clone, constant, label, serialize, weight_bytes
from graphpress.manager.contract import Context
from graphpress.passes.recovery import _budget, repair
from graphpress.passes.recovery._trials import split
from graphpress.passes.recovery.correct_bias import CorrectBias
from graphpress.passes.recovery.reconstruct import Reconstruct
from graphpress.passes.recovery.repair import Repair
from graphpress.runtime import session
from graphpress.targets import load_target

SIZES = {"depth": 8, "stem": "cifar", "width": 8, "image": 8, "classes": 4}


def measured(outcome):
    """The damage of each trial, from the notes."""
    (note,) = [note for note in outcome.notes if note.startswith("damage on samples held out")]
    return {name: float(number) for name, number in re.findall(r"(\w+) (\d\.\d+e[-+]\d+)", note)}


@pytest.fixture
def damaged(pruned):
    return pruned("resnet", ratio=0.3, **SIZES)


def test_the_better_trial_stays(damaged):
    before, decisions = damaged.error(), {}
    outcome = damaged.repair(Repair(), decisions=decisions)
    damages = measured(outcome)
    assert list(damages) == ["nothing", "biases", "weights"]
    assert decisions["0.repair.trial"]["choice"] == min(damages, key=lambda name: damages[name])
    assert outcome.changes
    assert damaged.error() < before


@pytest.mark.parametrize("choice", ["biases", "weights"])
def test_what_is_recorded_is_done_again_without_a_trial(damaged, choice, monkeypatch):
    given, decisions = damaged.model, {"0.repair.trial": {"choice": choice, "samples": 32, "note": "as then"}}
    monkeypatch.setattr(repair, "DamageMeasure", None)
    outcome = damaged.repair(Repair(), decisions=decisions)
    assert outcome.notes[-1] == "as then"
    seen, _ = split(Context(load_target("cpu"), damaged.start, calibration=damaged.feeds))
    expected = serialize(damaged.model)
    damaged.model = given
    if choice == "weights":
        damaged.repair(Reconstruct(samples=32), calibration=seen)
    damaged.repair(CorrectBias(samples=32), calibration=seen)
    assert serialize(damaged.model) == expected


def test_weights_are_not_solved_for_where_that_takes_too_long(damaged, monkeypatch):
    monkeypatch.setattr(_budget, "_seconds_per_sample", lambda run, data: 1.0)
    outcome = damaged.repair(Repair(seconds=1))
    assert list(measured(outcome)) == ["nothing", "biases"]
    assert any("weights stay: solving for them takes about" in note for note in outcome.notes)


def test_nothing_is_tried_where_no_damage_was_done(pruned):
    whole = pruned("resnet", ratio=0.0, **SIZES)
    before = serialize(whole.model)
    outcome = whole.repair(Repair())
    assert list(measured(outcome)) == ["nothing"]
    assert outcome.changes == 0
    assert serialize(whole.model) == before


def test_damage_is_seen_against_what_the_answers_tell_apart(pruned):
    """Answers that hardly differ are lost in little noise: that of a large net with random weights, for instance."""
    flat = pruned("resnet", ratio=0.3, **SIZES)
    for model in (flat.start, flat.model):
        for name in ("fc_weight", "fc.weight"):
            if name in model.graph.initializers:
                weight = model.graph.initializers[name]
                Editor(model).set_constant(weight, constant(weight) * np.float32(0.01))
    damages = measured(flat.repair(Repair()))
    assert damages["nothing"] < 2e-4
    assert "biases" in damages


def test_a_time_limit_ends_trials_before_they_begin(damaged):
    late = Deadline(time.monotonic() - 100, 100)
    before = serialize(damaged.model)
    outcome = damaged.repair(Repair(), deadline=late)
    assert "time limit" in outcome.refusals[0].why
    assert serialize(damaged.model) == before


def test_a_time_limit_keeps_what_was_tried_before_it(damaged, monkeypatch):
    def too_late(self, model, context):
        raise OutOfTimeError

    monkeypatch.setattr(Reconstruct, "run", too_late)
    outcome = damaged.repair(Repair())
    assert list(measured(outcome)) == ["nothing", "biases"]
    assert "the time limit was reached" in outcome.notes[-1]
    assert outcome.changes


def test_a_model_that_no_repair_betters_stays_as_it_is(damaged, monkeypatch):
    judged = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr("graphpress.evaluation.sensitivity.DamageMeasure.damage", lambda self, model: next(judged))
    before = serialize(damaged.model)
    outcome = damaged.repair(Repair())
    assert outcome.changes == 0
    assert serialize(damaged.model) == before


def test_what_judges_is_not_seen_by_the_trials():
    feeds = [{"x": np.full((1, 1), number, np.float32)} for number in range(9)]
    seen, judging = split(Context(load_target("cpu"), None, calibration=feeds))
    assert [int(feed["x"].item()) for feed in seen] == [0, 1, 2, 4, 5, 6, 8]
    assert [int(feed["x"].item()) for feed in judging] == [3, 7]


def test_too_few_feeds_to_split_serve_as_both():
    feeds = [{"x": np.zeros((1, 1), np.float32)}] * 3
    seen, judging = split(Context(load_target("cpu"), None, calibration=feeds))
    assert list(seen) == list(judging) == feeds


def test_it_refuses_without_a_start_or_data(damaged):
    assert "there is no model to repair towards" in damaged.repair(Repair(), transaction=None).refusals[0].why
    assert "needs calibration data" in damaged.repair(Repair(), calibration=None).refusals[0].why


def test_of_a_large_model_biases_alone_change(damaged, monkeypatch):
    monkeypatch.setattr(session, "KEPT_BYTES", weight_bytes(damaged.start) - 1)
    before, error = clone(damaged.model), damaged.error()
    outcome = damaged.repair(Repair())
    assert list(measured(outcome)) == ["nothing", "biases"]
    assert "large model" in outcome.notes[-1]
    assert damaged.error() < error
    layers = [node for node in damaged.model.graph if node.op_type in ("Conv", "Gemm")]
    weights = {label(node.inputs[1]) for node in layers}
    for name in weights:
        assert damaged.model.graph.initializers[name].const_value is before.graph.initializers[name].const_value


@pytest.mark.parametrize("options", [{"samples": 0}, {"share": -0.5}, {"seconds": float("nan")}])
def test_senseless_options_are_named(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        Repair(**options)
