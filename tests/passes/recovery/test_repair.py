"""Repair by trial: the one of least damage on samples that no trial saw stays, and the notes say what was measured."""

import re

import numpy as np
import pytest

from graphpress.errors import UsageError
from graphpress.ir import serialize, weight_bytes
from graphpress.manager.contract import Context
from graphpress.passes.recovery.correct_bias import CorrectBias
from graphpress.passes.recovery.repair import Repair, _split
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
    assert decisions == {"0.repair.choice": min(damages, key=lambda name: damages[name])}
    assert outcome.changes
    assert damaged.error() < before


def test_the_choice_is_between_exactly_these(damaged):
    given = damaged.model
    damaged.repair(Repair(), decisions={"0.repair.choice": "biases"})
    seen, _ = _split(Context(load_target("cpu"), damaged.start, calibration=damaged.feeds))
    expected = serialize(damaged.model)
    damaged.model = given
    damaged.repair(CorrectBias(samples=256), calibration=seen)
    assert serialize(damaged.model) == expected


def test_weights_are_not_solved_for_where_that_takes_too_much(damaged):
    outcome = damaged.repair(Repair(effort=1))
    assert list(measured(outcome)) == ["nothing", "biases"]
    assert any("weights stay: solving for them takes" in note for note in outcome.notes)


def test_weights_are_not_solved_for_where_no_damage_is_left(pruned):
    whole = pruned("resnet", ratio=0.0, **SIZES)
    outcome = whole.repair(Repair())
    assert any("weights stay: next to no damage is left" in note for note in outcome.notes)


def test_a_model_that_no_repair_betters_stays_as_it_is(damaged, monkeypatch):
    judged = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr("graphpress.evaluation.sensitivity.DamageMeasure.damage", lambda self, model: next(judged))
    before = serialize(damaged.model)
    outcome = damaged.repair(Repair())
    assert outcome.changes == 0
    assert serialize(damaged.model) == before


def test_what_judges_is_not_seen_by_the_trials():
    feeds = [{"x": np.full((1, 1), number, np.float32)} for number in range(9)]
    seen, judging = _split(Context(load_target("cpu"), None, calibration=feeds))
    assert [int(feed["x"].item()) for feed in seen] == [0, 1, 2, 4, 5, 6, 8]
    assert [int(feed["x"].item()) for feed in judging] == [3, 7]


def test_too_few_feeds_to_split_serve_as_both():
    feeds = [{"x": np.zeros((1, 1), np.float32)}] * 3
    seen, judging = _split(Context(load_target("cpu"), None, calibration=feeds))
    assert list(seen) == list(judging) == feeds


def test_it_refuses_without_a_start_or_data(damaged):
    assert "there is no model to repair towards" in damaged.repair(Repair(), transaction=None).refusals[0].why
    assert "needs calibration data" in damaged.repair(Repair(), calibration=None).refusals[0].why


def test_a_large_model_is_not_held_several_times(damaged, monkeypatch):
    monkeypatch.setattr(session, "KEPT_BYTES", weight_bytes(damaged.start) - 1)
    (refusal,) = damaged.repair(Repair()).refusals
    assert "once more" in refusal.why
    assert "correct_bias" in refusal.fix


@pytest.mark.parametrize("options", [{"samples": 0}, {"effort": 0.5}, {"effort": float("nan")}])
def test_senseless_options_are_named(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        Repair(**options)
