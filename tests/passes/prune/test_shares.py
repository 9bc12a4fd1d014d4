"""A goal that prune and lowrank share: what either is to reach is tried on copies, and recorded."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from text_models import model_of

import graphpress
from graphpress.allocation import Goal
from graphpress.analysis.cost import model_cost
from graphpress.deadline import Deadline
from graphpress.errors import ModelError
from graphpress.ir import clone, save, serialize, verify
from graphpress.manager.contract import Context
from graphpress.manager.recipe import from_text
from graphpress.manager.transaction import Transaction
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.passes.prune import _shares
from graphpress.passes.prune._shares import GoalShares
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(128, 48)).astype(np.float32)
NET = """(float[N,48] x) => (float[N,8] y) {
    a = MatMul(x, w0)  b = Relu(a)  c = MatMul(b, w1)  d = Relu(c)  y = MatMul(d, w2) }"""


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32) / np.float32(np.sqrt(shape[0]))


@pytest.fixture(scope="module")
def net():
    """Of one layer the rank is low, of another half of the units do next to nothing: 43 % of the work is needed."""
    w2 = normal(64, 8)
    w2[::2] *= 1e-4
    return model_of(NET, w0=normal(48, 8) @ normal(8, 48), w1=normal(48, 64), w2=w2)


def apply(model, passes, **context):
    """A copy with the passes of a recipe run on it in one transaction, what they say, and the damage to its outputs."""
    pruning, partner = (pass_ for pass_ in from_text(passes).passes if pass_.is_goal)
    changed, about = clone(model), {"calibration": [{"x": X}], "decisions": {}, **context}
    shared = Context(load_target("cpu"), model, transaction=Transaction(model), **about)
    outcomes = pruning.run(changed, replace(shared, partner=partner)), partner.run(changed, shared)
    verify(changed)
    return changed, outcomes


def lost(model, changed):
    wanted, given = (Session(each).run({"x": X})["y"] for each in (model, changed))
    return np.square(given - wanted).sum() / np.square(wanted).sum()


def kept(model, changed):
    return model_cost(changed).macs / model_cost(model).macs


def test_both_together_reach_what_neither_does_alone(net):
    changed, outcomes = apply(net, "prune,lowrank{macs_kept=0.55,multiple=1}")
    assert kept(net, changed) <= 0.55
    assert lost(net, changed) < 1e-3
    assert all(outcome.changes for outcome in outcomes)
    said = outcomes[0].notes[0]
    assert "lowrank alone" in said
    assert "and lowrank for the rest was carried out" in said


def test_the_choice_is_recorded_and_followed(net, monkeypatch):
    decisions = {}
    first, outcomes = apply(net, "prune,lowrank{macs_kept=0.55,multiple=1}", decisions=decisions)
    monkeypatch.setattr(GoalShares, "_try", lambda *_: pytest.fail("measured again"))
    second, again = apply(net, "prune,lowrank{macs_kept=0.55,multiple=1}", decisions=dict(decisions))
    assert serialize(second) == serialize(first)
    assert again[0].notes[0] == outcomes[0].notes[0]


@pytest.mark.parametrize("goal", ["macs_kept", "params_kept"])
def test_either_goal_is_met_from_the_start_of_the_transaction(net, goal):
    changed, _ = apply(net, f"prune{{{goal}=0.6}},lowrank{{multiple=1}}")
    resource = {"macs_kept": "macs", "params_kept": "parameters"}[goal]
    assert getattr(model_cost(changed), resource) <= 0.601 * getattr(model_cost(net), resource)


def test_without_data_the_other_pass_goes_first_and_pruning_does_what_it_cannot(net):
    _, (pruning, lowrank) = apply(net, "prune,lowrank{macs_kept=0.6,multiple=1}", calibration=None)
    assert not pruning.changes
    assert lowrank.changes
    assert "damage cannot be measured" in pruning.notes[0]
    beyond, (pruning, _) = apply(net, "prune,lowrank{macs_kept=0.03,multiple=1}", calibration=None)
    assert pruning.changes
    assert kept(net, beyond) <= 0.0301


# -- the search, by what each share is said to do: the measuring is tested above ----------------------------------


@pytest.fixture
def search(net, monkeypatch):
    """Which shares are tried where the damage is a function of the share, and what is decided."""

    def run(damage, *, goal=0.5, missed=lambda at: False, **context):
        tried = []

        def tries(self, at, trial):
            tried.append(at)
            return _shares._Share(missed(at), damage(at), at)

        monkeypatch.setattr(GoalShares, "_try", tries)
        monkeypatch.setattr(GoalShares, "_trial", lambda self: SimpleNamespace(is_absurd=lambda harm: harm > 50))
        about = Context(load_target("cpu"), net, **context)
        shares = GoalShares(net, Goal("macs_kept", goal, "prune"), lambda *_: None, LowRank(macs_kept=goal), about)
        return tried, shares.best("key")

    return run


@pytest.mark.parametrize("best", [0.0, 0.1, 0.3, 0.7, 1.0])
def test_the_ends_are_tried_and_the_search_closes_in_on_the_best(search, best):
    tried, decision = search(lambda at: 0.1 + (at - best) ** 2)
    assert {0.0, 1.0} <= set(tried)
    assert len(tried) == len(set(tried)) <= 5
    chosen = min(tried, key=lambda at: abs(at - best))
    assert decision.left == pytest.approx(0.5 ** (chosen**2))
    assert abs(chosen - best) <= 0.13


def test_pruning_goes_on_as_long_as_it_does_good(search):
    assert search(lambda at: 0.1 + at)[0] == [0.0, 0.25, 1.0, 0.125]
    assert search(lambda at: 1.1 - at)[0] == [0.0, 0.25, 0.5, 1.0, 0.75]


@pytest.mark.parametrize(("at", "name"), [(0.0, "lowrank alone"), (1.0, "prune alone")])
def test_where_one_alone_is_best_that_is_said(search, at, name):
    _, decision = search(lambda share: 0.1 + abs(share - at))
    assert f"{name} was carried out" in decision.note
    assert decision.left == (1.0 if at == 0 else 0.5)


def test_a_share_that_misses_the_goal_is_the_last_choice(search):
    _, decision = search(lambda at: 0.1 + at, missed=lambda at: at < 1)
    assert "prune alone was carried out" in decision.note
    assert "(short of the goal)" in decision.note


def test_nothing_more_is_tried_where_nothing_is_left_to_win(search):
    assert search(lambda at: 0.0)[0] == [0.0]


def test_ruin_is_called_that(search):
    assert "ask for less" in search(lambda at: 60.0)[1].note


def test_a_trial_that_fails_leaves_what_was_tried_before(search):
    def damage(at):
        if at:
            raise ModelError("it does not run")
        return 0.1

    tried, decision = search(damage)
    assert len(tried) == 2
    assert "lowrank alone was carried out; no more were tried: it does not run" in decision.note


def test_trials_end_with_a_part_of_the_time(net):
    deadline = Deadline(time.monotonic() - 10, 10.0)
    changed, outcomes = apply(net, "prune,lowrank{macs_kept=0.55,multiple=1}", deadline=deadline)
    assert "the time limit leaves no more time" in outcomes[0].notes[0]
    assert kept(net, changed) <= 0.55


# -- the whole way ------------------------------------------------------------------------------------------------


def test_one_transaction_with_one_verdict_that_can_be_replayed(net, tmp_path):
    file, out = tmp_path / "net.onnx", tmp_path / "out"
    save(net, file)
    data = {"calibration": X}
    options = {"data": data, "max_drop": None, "allow_worse": True, "backend": "onnxruntime"}
    passes = "prune,lowrank{macs_kept=0.55,multiple=1}"
    result = graphpress.optimize(file, passes=passes, output=out, **options)
    assert not result.report.not_done
    records = {record["name"]: record for record in json.loads((out / "report.json").read_text())["passes"]}
    assert len({records[name]["transaction"] for name in ("prune", "lowrank", "reconstruct")}) == 1
    again = graphpress.optimize(file, data=data, recipe=out / "manifest.json", output=tmp_path / "again")
    assert (again.output / "model.onnx").read_bytes() == (out / "model.onnx").read_bytes()


def test_a_pass_whose_partner_does_its_part_is_no_request_that_was_not_met(net, tmp_path, monkeypatch):
    monkeypatch.setattr(GoalShares, "_places", lambda self: [0.0])
    file = tmp_path / "net.onnx"
    save(net, file)
    result = graphpress.optimize(
        file, data={"calibration": X}, max_drop=None, allow_worse=True, backend="onnxruntime", output=tmp_path / "out",
        passes="prune,lowrank{macs_kept=0.8,multiple=1}",
    )  # fmt: skip
    assert not result.report.not_done
