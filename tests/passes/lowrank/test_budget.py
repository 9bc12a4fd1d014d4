"""Without a goal, ranks are the cheapest within the accuracy budget, and where none are, that is said."""

import time
from dataclasses import replace

import numpy as np
import pytest
from text_models import model_of

from graphpress.analysis.cost import model_cost
from graphpress.data import load_dataset
from graphpress.deadline import Deadline
from graphpress.evaluation import EvaluationService, resolve_metric
from graphpress.ir import clone, verify
from graphpress.manager.contract import Context
from graphpress.passes.lowrank import _budget
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)
NET = """(float[N,96] x) => (float[N,8] y) {
    a = MatMul(x, w0)  b = Relu(a)  c = MatMul(b, w1)  d = Relu(c)  y = MatMul(d, w2) }"""
X = RANDOM.normal(size=(256, 96)).astype(np.float32)


def decaying(rows, columns, by):
    """A weight whose singular values fall by a factor from one to the next."""
    left, right = (np.linalg.qr(RANDOM.normal(size=(size, size)))[0] for size in (rows, columns))
    rank = min(rows, columns)
    return ((left[:, :rank] * by ** np.arange(rank)) @ right[:rank] * 8).astype(np.float32)


@pytest.fixture(scope="module")
def net():
    return model_of(NET, w0=decaying(96, 96, 0.85), w1=decaying(96, 96, 0.85), w2=decaying(96, 8, 0.9))


def service(model, max_drop, *, metric="top1", labeled=False, samples=256):
    """A run's, whose calibration data has labels or not."""
    session = Session(model)
    labels = session.run({"x": X})["y"].argmax(1)
    part = (X[:samples], labels[:samples])
    data = load_dataset({"calibration": part if labeled else part[0], "evaluation": (X, labels)}, session.inputs)
    chosen = resolve_metric(metric, has_labels=True)
    return data, EvaluationService.of(data, chosen, session, lambda model: model, max_drop=max_drop)


def apply(model, evaluated, target=None, **context):
    """A copy with the pass run on it without a goal, and what it says."""
    data, evaluation = evaluated
    changed = clone(model)
    about = Context(
        target or load_target("jetson"), model, calibration=data.calibration, evaluation=evaluation, **context
    )
    outcome = LowRank(multiple=1).run(changed, about)
    verify(changed)
    return changed, outcome


def lost(model, changed):
    before, after = (Session(each).run({"x": X})["y"].argmax(1) for each in (model, changed))
    return float((before != after).mean())


@pytest.mark.parametrize("labeled", [True, False])
def test_as_much_is_saved_as_the_budget_allows(net, labeled):
    kept = {}
    for max_drop in (0.02, 0.2):
        changed, outcome = apply(net, service(net, max_drop, labeled=labeled))
        assert outcome.changes
        assert lost(net, changed) <= max_drop
        assert any("allowed" in note and f"{100 * max_drop:.2f} points" in note for note in outcome.notes)
        kept[max_drop] = model_cost(changed).macs / model_cost(net).macs
    assert kept[0.2] < kept[0.02] < 0.9


def test_what_is_right_on_the_samples_that_it_was_fitted_on_alone_is_not_within_the_budget():
    """A layer of full rank that reads fewer samples than it has inputs: on these, low rank is exact."""
    model = model_of("(float[N,96] x) => (float[N,96] y) { y = MatMul(x, w) }", w=decaying(96, 96, 1.0))
    changed, outcome = apply(model, service(model, 0.1, samples=40))
    assert outcome.changes == 0 or lost(model, changed) <= 0.1
    assert any("on 10 calibration samples" in said for said in (*outcome.notes, outcome.refusals[0].why))


def test_a_budget_that_no_rank_keeps_leaves_the_model_whole_and_says_so_first():
    model = model_of("(float[N,96] x) => (float[N,96] y) { y = MatMul(x, w) }", w=decaying(96, 96, 1.0))
    changed, outcome = apply(model, service(model, 0.0))
    assert outcome.changes == 0
    assert [node.op_type for node in changed.graph] == ["MatMul"]
    assert outcome.refusals[0].where == "lowrank"
    assert "accuracy budget" in outcome.refusals[0].why


@pytest.mark.parametrize(
    ("max_drop", "metric", "why"), [(None, "top1", "waived"), (0.1, "top5", "cannot be taken on the calibration data")]
)
def test_without_a_budget_that_can_be_measured_half_stays_and_the_report_says_why(net, max_drop, metric, why):
    changed, outcome = apply(net, service(net, max_drop, metric=metric))
    assert model_cost(changed).macs <= 0.5 * model_cost(net).macs
    assert any("was the goal" in note and why in note for note in outcome.notes)


def test_where_no_time_can_be_had_multiply_accumulates_are_saved(net):
    _, outcome = apply(net, service(net, 0.1), replace(load_target("jetson"), peak_gmacs={}))
    assert any("of the multiply-accumulates, for" in note for note in outcome.notes)


def test_the_choice_is_recorded_and_followed_without_a_search(net, monkeypatch):
    decisions = {}
    changed, _ = apply(net, service(net, 0.1), decisions=decisions)
    monkeypatch.setattr(_budget.BudgetSearch, "run", None)
    again, _ = apply(net, service(net, 0.1), decisions=dict(decisions))
    assert model_cost(again).macs == model_cost(changed).macs


def test_the_search_ends_in_time(net):
    """With no time for another trial, the first one stands."""
    soon = Deadline(time.monotonic() - 100, 100.0)
    _, outcome = apply(net, service(net, 0.9), deadline=soon)
    assert any("models tried: 1" in note for note in outcome.notes)
