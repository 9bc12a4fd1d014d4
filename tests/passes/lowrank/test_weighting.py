"""Outputs count as the model's answers depend on them: the weighted optimum, gradients, and refusals by name."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from text_models import model_of

from graphpress.data import batch_of
from graphpress.errors import BackendError, UsageError
from graphpress.manager.contract import Context
from graphpress.passes.lowrank._alternating import decompose
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank._problem import LayerProblem
from graphpress.passes.lowrank._weighting import root_of
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)
SPANNING = [name for name, form in FORMS.items() if form.spans_outputs]


def information(blocks, outputs):
    gradients = RANDOM.normal(size=(blocks, 40, outputs)) * np.geomspace(10, 0.1, outputs)
    return gradients.swapaxes(1, 2) @ gradients


def problem(blocks=1):
    rows = RANDOM.normal(size=(blocks, 200, 54)) @ RANDOM.normal(size=(54, 54))
    covariance = rows.swapaxes(1, 2) @ rows / 200
    return LayerProblem(
        RANDOM.normal(size=(blocks, 54, 12)), (3, 3), covariance, output_root=root_of(information(blocks, 12))
    )


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("name", SPANNING)
def test_the_weighted_error_is_less_and_full_rank_exact(name, blocks):
    form, task = FORMS[name], problem(blocks)
    full = form.full_ranks(task)
    ranks = tuple(max(1, rank // 3) for rank in full)
    alike = replace(task, output_root=None)
    ours, plain = (form.matrix(decompose(form, each, ranks), each) for each in (task, alike))
    assert task.error(ours) < task.error(plain)
    if name != "cp":
        assert task.error(form.matrix(decompose(form, task, full), task)) < 1e-8


def test_the_known_error_is_that_of_the_weighted_optimum():
    form, task = FORMS["svd"], problem()
    matrix = form.matrix(decompose(form, task, (4,)), task)
    assert task.error(matrix) == pytest.approx(form.known_error(task.with_equal_outputs, (4,)))
    s = task.output_root[0] @ task.output_root[0]
    difference = (task.matrix - matrix)[0]
    assert task.energy(task.matrix - matrix) == pytest.approx(
        np.trace(s @ difference.T @ task.covariance[0] @ difference)
    )


def test_what_says_nothing_weighs_nothing():
    assert root_of(np.zeros((1, 3, 3))) is None
    assert root_of(np.full((1, 3, 3), np.nan)) is None
    np.testing.assert_allclose(root_of(np.eye(3)[None] * 7), np.eye(3)[None])


NET = """(float[N,12] x) => (float[N,6] y) {
    h = MatMul(x, w)  s = Mul(h, gate)  r = Relu(s)  y = MatMul(r, v) }"""


def net():
    """The first half of what its first layer computes hardly reaches the answer."""
    gate = np.repeat(np.array([0.01, 1], np.float32), 8)
    return model_of(
        NET,
        w=RANDOM.normal(size=(12, 16)).astype(np.float32) * np.repeat([4, 1], 8).astype(np.float32),
        v=RANDOM.normal(size=(16, 6)).astype(np.float32),
        gate=gate,
    )


FEEDS = [{"x": RANDOM.normal(size=(8, 12)).astype(np.float32)} for _ in range(16)]


def apply(lowrank, model, feeds=FEEDS):
    context = Context(target=load_target("cpu"), original=model, calibration=feeds)
    return lowrank.run(model, context)


def lost(weighting):
    """How much the answers of the net change."""
    RANDOM.bit_generator.state = np.random.default_rng(1).bit_generator.state
    whole = net()
    answers = [Session(whole).run(feed)["y"] for feed in FEEDS]
    assert apply(LowRank(rank=0.34, multiple=1, layers="h", weighting=weighting), whole).changes == 1
    changed = [Session(whole).run(feed)["y"] for feed in FEEDS]
    return sum(
        float(np.square(a - b).sum()) / batch_of(feed) for a, b, feed in zip(answers, changed, FEEDS, strict=True)
    )


def test_outputs_that_hardly_matter_give_their_rank_to_the_others():
    pytest.importorskip("torch")
    assert lost("fisher") < lost("none") / 2


def test_without_data_it_is_an_error():
    with pytest.raises(UsageError, match="calibration data"):
        apply(LowRank(rank=0.34, weighting="fisher"), net(), None)


def test_without_the_framework_the_install_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendError, match="pip install"):
        apply(LowRank(rank=0.34, weighting="fisher"), net())


@pytest.mark.parametrize("method", ["tt", "monarch"])
def test_forms_without_a_free_last_factor_are_refused(method):
    with pytest.raises(UsageError, match="fisher"):
        LowRank(method=method, weighting="fisher")
