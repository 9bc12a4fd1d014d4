"""The pass: goals are met, choices are followed, what stays is said with its reason."""

from __future__ import annotations

import re

import numpy as np
import pytest

from graphpress import ir, optimize
from graphpress.analysis.cost import model_cost
from graphpress.errors import UsageError
from graphpress.manager.contract import Context
from graphpress.manager.recipe import from_text
from graphpress.manager.transaction import Transaction
from graphpress.models import build
from graphpress.passes.prune.prune import Prune
from graphpress.runtime import Session
from graphpress.targets import load_target


def context(model: ir.Model, **more) -> Context:
    return Context(load_target("cpu"), model, transaction=Transaction(model), **more)


def pruned(model: ir.Model, prune: Prune, **more):
    copy = ir.clone(model)
    about = context(model, **more)
    outcome = prune.run(copy, about)
    assert ir.problems(copy) == []
    return copy, outcome, about


@pytest.fixture(scope="module")
def network() -> ir.Model:
    return build("resnet", depth=20, stem="cifar", width=16, image=32)


@pytest.mark.parametrize("allocation", ["uniform", "global", "latency"])
@pytest.mark.parametrize(("goal", "cost"), [("macs_kept", "macs"), ("params_kept", "parameters")])
def test_goals_are_met(network, goal, cost, allocation):
    smaller, outcome, _ = pruned(network, Prune(**{goal: 0.4}, allocation=allocation))
    kept = getattr(model_cost(smaller), cost) / getattr(model_cost(network), cost)
    assert 0.34 < kept <= 0.4
    assert outcome.changes


def test_half_of_every_group_by_default(network):
    smaller, outcome, about = pruned(network, Prune())
    halved = 0
    for name, value in smaller.graph.initializers.items():
        for axis, positions in enumerate(about.transaction.kept.get(name, ())):
            if positions is not None:
                assert value.shape[axis] == len(positions) == network.graph.initializers[name].shape[axis] // 2
                halved += 1
    assert halved > 40
    assert any("of the parameters" in note for note in outcome.notes)


def test_public_shapes_stay(network):
    smaller, _, _ = pruned(network, Prune(ratio=0.5))
    before, after = Session(network), Session(smaller)
    assert [(spec.name, spec.dims) for spec in after.inputs] == [(spec.name, spec.dims) for spec in before.inputs]
    feed = {before.inputs[0].name: np.zeros((3, 3, 32, 32), np.float32)}
    assert {name: array.shape for name, array in after.run(feed).items()} == {
        name: array.shape for name, array in before.run(feed).items()
    }


def test_excluded_layers_keep_every_channel(network):
    name = next(node.name for node in network.graph if node.op_type == "Conv" and "layer2" in node.name)
    smaller, outcome, _ = pruned(network, Prune(ratio=0.5, exclude=re.escape(name)))
    before, after = (next(node for node in model.graph if node.name == name) for model in (network, smaller))
    assert after.inputs[1].shape[0] == before.inputs[1].shape[0]
    assert any("excluded by name" in refusal.why for refusal in outcome.refusals)


def test_named_layers_alone(network):
    _, outcome, _ = pruned(network, Prune(ratio=0.5, layers=r"layer1/[12]/part1"))
    assert outcome.changes == 2
    assert any("no layer of this group matches" in refusal.why for refusal in outcome.refusals)


def test_what_the_user_excludes_everywhere_is_excluded_here(network):
    _, outcome, _ = pruned(network, Prune(ratio=0.5), exclude=re.compile(".*"))
    assert outcome.changes == 0
    assert any("no channels can be removed" in refusal.why for refusal in outcome.refusals)


def test_least_important_channels_go():
    model = build("vgg", width=8)
    edit = ir.Editor(model)
    first, second = [node for node in model.graph if node.op_type == "Conv"][:2]
    weight = ir.constant(second.inputs[1]).copy()
    weight[:, [1, 4, 6, 7]] *= 1e-3
    edit.set_constant(second.inputs[1], weight)
    _, _, about = pruned(model, Prune(ratio=0.5, criterion="l2"))
    assert set(about.transaction.kept[first.inputs[1].name][0]) == {0, 2, 3, 5}


def test_steps_go_the_same_way_in_turns(network):
    once, _, _ = pruned(network, Prune(macs_kept=0.5, allocation="uniform"))
    thrice, _, about = pruned(network, Prune(macs_kept=0.5, allocation="uniform", steps=3))
    assert model_cost(thrice).macs == pytest.approx(model_cost(once).macs, rel=0.06)
    for name, value in thrice.graph.initializers.items():
        kept = about.transaction.kept.get(name)
        if kept is None or name not in network.graph.initializers:
            continue
        original = ir.constant(network.graph.initializers[name])
        picked = np.ix_(
            *(np.arange(size) if left is None else left for size, left in zip(original.shape, kept, strict=True))
        )
        np.testing.assert_array_equal(ir.constant(value), original[picked])


@pytest.mark.parametrize("goal", [{"ratio": 0.9}, {"macs_kept": 0.05}])
@pytest.mark.parametrize("allocation", ["uniform", "global", "latency"])
def test_the_floor_holds_over_all_steps(network, goal, allocation):
    _, outcome, about = pruned(network, Prune(**goal, allocation=allocation, steps=3, floor=0.5))
    for name, kept in about.transaction.kept.items():
        before = network.graph.initializers.get(name)
        for axis, positions in enumerate(kept if before is not None else ()):
            assert positions is None or 2 * len(positions) >= before.shape[axis]
    assert sum("was not reached in 3 steps" in refusal.why for refusal in outcome.refusals) == 1
    assert len(set(outcome.refusals)) == len(outcome.refusals), "what stays is said once, not at every step"


def test_the_same_bytes_every_time(network):
    first, second = (ir.serialize(pruned(network, Prune(ratio=0.5))[0]) for _ in range(2))
    assert first == second


def test_a_goal_out_of_reach_is_refused_with_the_best_there_is(network):
    _, outcome, _ = pruned(network, Prune(macs_kept=0.001))
    assert any("cannot be reached" in refusal.why for refusal in outcome.refusals)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"ratio": 0.5, "speedup": 2.0}, "two goals"),
        ({"ratio": 1.5}, "ratio"),
        ({"speedup": 0.5}, "speedup"),
        ({"criterion": "l3"}, "l3"),
        ({"layers": "("}, "regular expression"),
        ({"steps": 0}, "steps"),
        ({"floor": 2.0}, "floor"),
    ],
)
def test_wrong_words_are_errors(fields, word):
    with pytest.raises(UsageError, match=word):
        Prune(**fields)


def test_clean_up_comes_first_unless_it_is_there():
    alone, cleaned = ([step.name for step in from_text(text).passes] for text in ("prune", "cleanup,prune"))
    assert alone == cleaned
    assert alone[-2:] == ["prune", "reconstruct"]


@pytest.mark.parametrize("data", [True, False])
def test_least_squares_follows_by_default_where_there_is_data(data, tmp_path):
    images = np.random.default_rng(0).normal(size=(48, 3, 16, 16)).astype(np.float32)
    network, feed = build("resnet", depth=8, stem="cifar", width=8, image=16), {"input": images}
    errors = {}
    for text in ("prune", "prune{recover=false}"):
        rows = [{"input": image[None]} for image in images] if data else None
        result = optimize(network, data=rows, passes=text, output=tmp_path / text, max_drop=None, allow_worse=True)
        (wanted,), (got,) = (Session(model).run(feed).values() for model in (network, result.output / "model.onnx"))
        errors[text] = float(np.square(wanted - got).sum())
    repaired, left_alone = errors.values()
    assert repaired < 0.8 * left_alone if data else repaired == left_alone
