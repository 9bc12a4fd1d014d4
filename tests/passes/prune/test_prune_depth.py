"""Whole blocks: which can go, in which order, what is left, and why others stay."""

from __future__ import annotations

import re

import numpy as np
import pytest

from graphpress import ir
from graphpress.analysis.shapes import infer_shapes
from graphpress.errors import DataError, UsageError
from graphpress.ir import Editor
from graphpress.manager.contract import Context
from graphpress.models import build
from graphpress.models.builder import Builder, Conv
from graphpress.passes._probe import probe_feed
from graphpress.passes.prune.prune_depth import PruneDepth, residual_blocks
from graphpress.runtime import Session
from graphpress.targets import load_target


def context(model, **more):
    return Context(load_target("cpu"), model, **more)


def prepared(family, **sizes):
    model = build(family, **sizes)
    infer_shapes(model)
    return model


def names(model):
    return [block.add.name for block in residual_blocks(model, context(model))[0]]


def run(model, feed):
    return next(iter(Session(model).run(feed).values()))


CANDIDATES = {
    ("resnet", 18): 5,
    ("resnet", 50): 12,
    ("vit", None): 4,
    ("bert", None): 4,
    ("gpt", None): 4,
    ("densenet", None): 0,
    ("vgg", None): 0,
    ("unet", None): 0,
}


@pytest.mark.parametrize(("family", "depth"), CANDIDATES)
def test_blocks_are_found(family, depth):
    model = prepared(family, **({} if depth is None else {"depth": depth}))
    assert len(names(model)) == CANDIDATES[family, depth]


@pytest.mark.parametrize("family", ["resnet", "vit", "bert", "gpt", "mobilenet_v2"])
def test_all_of_them_can_go(family):
    model = prepared(family)
    feed = probe_feed(model, context(model))
    count = len(names(model))
    before = {node.op_type for node in model.graph}, len(list(model.graph))
    outcome = PruneDepth(blocks=count).run(model, context(model))
    assert outcome.changes == count > 0
    assert ir.problems(model) == []
    assert names(model) == []
    assert len(list(model.graph)) < before[1] - 2 * count
    Session(model).run(feed)
    assert not [node for node in model.graph if not any(v.uses() or v.is_graph_output() for v in node.outputs)]


def test_the_rest_computes_as_with_branches_of_zero():
    model = prepared("resnet", depth=18, width=8)
    feed = probe_feed(model, context(model))
    copy = ir.clone(model)
    PruneDepth(blocks=2).run(model, context(model))
    left = {node.name for node in model.graph}
    edit = Editor(copy)
    for block in residual_blocks(copy, context(copy))[0]:
        if block.add.name in left:
            continue
        branch = block.add.inputs[1 - block.skip]
        zero = edit.add_constant(np.float32(0), "zero")
        edit.set_input(block.add, 1 - block.skip, edit.add_node("Mul", [branch, zero], before=block.add).outputs[0])
    np.testing.assert_allclose(run(model, feed), run(copy, feed), rtol=1e-5, atol=1e-6)


def test_the_least_harmful_goes_first():
    model = prepared("resnet", depth=50, width=8)
    edit = Editor(model)
    harmless = residual_blocks(model, context(model))[0][4]
    last = [node for node in harmless.nodes if node.op_type == "BatchNormalization"][-1]
    for index in (1, 2):
        edit.own_constant(last, index, 1e-6 * ir.constant(last.inputs[index]))
    name = harmless.add.name
    outcome = PruneDepth().run(model, context(model))
    assert name in outcome.notes[-1]
    assert name not in names(model)


def test_harm_is_measured_on_the_data_and_random_inputs_stand_in_for_it():
    model = prepared("resnet", depth=18, width=8)
    data = [{"input": np.random.default_rng(seed).normal(size=(4, 3, 64, 64)).astype(np.float32)} for seed in range(9)]
    with_data = PruneDepth(samples=8).run(ir.clone(model), context(model, calibration=data))
    without = PruneDepth().run(ir.clone(model), context(model))
    assert not any("no data" in note for note in with_data.notes)
    assert without.notes[0].startswith("no data")
    assert with_data.notes == PruneDepth(samples=8).run(ir.clone(model), context(model, calibration=data[:2])).notes


def test_a_fraction_of_the_blocks():
    model = prepared("resnet", depth=50, width=8)
    assert PruneDepth(ratio=0.25).run(model, context(model)).changes == 3


def test_asked_for_more_than_can_go():
    model = prepared("resnet", depth=18, width=8)
    before = ir.serialize(model)
    outcome = PruneDepth(blocks=6).run(model, context(model))
    assert outcome.changes == 0
    assert outcome.refusals[-1].why == "6 residual blocks are to go, 5 can"
    assert ir.serialize(model) == before


def test_excluded_nodes_hold_their_block():
    model = prepared("resnet", depth=18, width=8)
    blocks, refusals = residual_blocks(model, context(model, exclude=re.compile(r"layer1/0/part1")))
    assert len(blocks) == 4
    assert ["excluded" in refusal.why for refusal in refusals] == [True]


def chain(finish):
    """x -> conv -> [x + conv(relu(conv(x)))] -> pool, with something more at its inner value."""
    b = Builder("block")
    x = b.conv(b.input("input", ["batch", 3, 8, 8]), Conv((3, 4)))
    inner = b.node("Relu", b.conv(x, Conv((4, 4))))
    result = b.node("Add", x, b.conv(inner, Conv((4, 4))))
    finish(b, x, inner, result)
    model = b.finish()
    infer_shapes(model)
    return model


def read_outside(b, x, inner, result):
    b.output(b.node("Mul", result, inner), "output", ["batch", 4, 8, 8])


def also_an_output(b, x, inner, result):
    b.output(inner, "inside", ["batch", 4, 8, 8])
    b.output(result, "output", ["batch", 4, 8, 8])


def plain(b, x, inner, result):
    b.output(result, "output", ["batch", 4, 8, 8])


def broadcast(b, x, inner, result):
    """The sum is larger than what came in: no block."""
    pooled = b.node("GlobalAveragePool", result)
    b.output(b.node("Add", pooled, b.conv(b.node("Mul", pooled, result), Conv((4, 4)))), "output", [])


@pytest.mark.parametrize(
    ("finish", "count", "why"),
    [(plain, 1, None), (read_outside, 0, "is read by"), (also_an_output, 0, "the caller"), (broadcast, 1, None)],
)
def test_what_is_read_outside_stays(finish, count, why):
    model = chain(finish)
    blocks, refusals = residual_blocks(model, context(model))
    assert len(blocks) == count
    assert [why in refusal.why for refusal in refusals] == ([] if why is None else [True])


def test_the_public_name_of_the_output_stays():
    model = chain(plain)
    feed = probe_feed(model, context(model))
    assert PruneDepth().run(model, context(model)).changes == 1
    assert [node.op_type for node in model.graph] == ["Conv"]
    assert Session(model).run(feed)["output"].shape == (1, 4, 8, 8)


def test_a_batch_of_one_hides_no_broadcast():
    b = Builder("queries")
    memory = b.input("memory", ["batch", 4, 8])
    query = b.node("Relu", b.parameter("query", np.ones((1, 4, 8), np.float32)))
    branch = b.node("MatMul", b.node("Mul", query, memory), b.weight((8, 8), 8))
    b.output(b.node("Add", query, branch), "output", ["batch", 4, 8])
    model = b.finish()
    infer_shapes(model)
    assert names(model) == []


def test_the_inner_block_goes_with_the_outer():
    b = Builder("nested")
    x = b.conv(b.input("input", ["batch", 3, 8, 8]), Conv((3, 4)))
    inner = b.conv(x, Conv((4, 4)))
    inner = b.node("Add", inner, b.conv(inner, Conv((4, 4))))
    result = b.node("Relu", b.node("Add", x, inner))
    b.output(result, "output", ["batch", 4, 8, 8])
    model = b.finish()
    infer_shapes(model)
    feed = probe_feed(model, context(model))
    assert len(names(model)) == 2
    outcome = PruneDepth(blocks=2).run(model, context(model))
    assert outcome.changes == 2 - sum("took all others" in refusal.why for refusal in outcome.refusals)
    assert [node.op_type for node in model.graph] == ["Conv", "Relu"]
    Session(model).run(feed)


@pytest.mark.parametrize("fields", [{"blocks": 0}, {"samples": 0}, {"ratio": 1.0}, {"ratio": 0.0}])
def test_nonsense_is_refused(fields):
    with pytest.raises(UsageError):
        PruneDepth(**fields)


def test_finding_is_linear(work):
    def calls(blocks):
        model = prepared("resnet", stem="cifar", depth=6 * blocks + 2, image=8)
        return work(lambda: residual_blocks(model, context(model)))

    assert calls(12) < 6 * calls(3)


@pytest.fixture(scope="module")
def network():
    return prepared("resnet", depth=20, stem="cifar", width=8, image=8)


def with_classes(model):
    """The same network with the class as its only output, an integer."""
    edit, scores = Editor(model), model.graph.outputs[0]
    edit.replace_output(scores, edit.add_node("ArgMax", [scores], {"axis": 1}, after=scores.producer()).outputs[0])
    model.graph.outputs[0].type, model.graph.outputs[0].shape = ir.TensorType(ir.DataType.INT64), None
    return model


def test_harm_is_seen_in_outputs_that_are_classes(network):
    model = with_classes(ir.clone(network))
    outcome = PruneDepth(blocks=2).run(model, context(model))
    harms = [float(note.rpartition(" ")[2].rstrip("%")) for note in outcome.notes if "have changed by" in note]
    assert len(harms) == 2
    assert all(0 <= harm <= 100 for harm in harms)


def test_a_network_without_blocks_is_left_as_it_is():
    model = prepared("vgg")
    outcome = PruneDepth().run(model, context(model))
    assert (outcome.changes, outcome.refusals[-1].why) == (0, "no residual block can go")


def test_no_samples_are_an_error_and_not_a_guess(network):
    with pytest.raises(DataError, match="empty"):
        PruneDepth().run(ir.clone(network), context(network, calibration=[]))


def test_outputs_that_are_no_numbers_tell_nothing(network):
    shape = [1, *network.graph.inputs[0].shape][-3:]
    data = [{network.graph.inputs[0].name: np.full((2, *shape), np.nan, np.float32)}]
    outcome = PruneDepth().run(ir.clone(network), context(network, calibration=data))
    assert outcome.changes == 0
    assert "no finite numbers" in outcome.refusals[-1].why
