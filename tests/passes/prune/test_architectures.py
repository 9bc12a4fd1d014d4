"""Removing half of every group, or anything at random, from every family of architectures.

What is left must be valid, run at any batch size with outputs of the same shape, and compute what the original does
with the removed positions masked wherever they are read: in the outputs and in every tensor on the way.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from graphpress.ir import Editor, clone, constant, problems, serialize
from graphpress.manager.contract import Context
from graphpress.models import build, names
from graphpress.passes.prune.prune import Prune
from graphpress.runtime import Session
from graphpress.targets import load_target

CNN, TRANSFORMER = 0.35, 0.55
TOLERANCE = 1e-4
NOTHING_TO_REMOVE = {"branches", "chain", "control_flow"}

HIDDEN = "statistics of"
REDUCED = "statistics of ReduceMean"


@dataclass(frozen=True)
class Case:
    """A family at sizes where what surrounds the prunable layers does not outweigh them.

    Args:
        name: of the family.
        sizes: other than the defaults.
        most: part of the parameters that may be left at ratio 0.5.
        why: where that is more than a CNN's, what some weights are held by.
    """

    name: str
    sizes: dict[str, Any] = field(default_factory=dict)
    most: float = CNN
    why: str = ""

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.sizes.items())])


CASES = [
    Case("bert", {"layers": 4}, TRANSFORMER, REDUCED),
    Case("conformer", {}, TRANSFORMER, HIDDEN),
    Case("convnext", {"width": 48}, 0.58, HIDDEN),
    Case("crnn"),
    Case("densenet"),
    Case("detector"),
    Case("detector", {"batch_norm": False}),
    Case("detr", {}, TRANSFORMER, HIDDEN),
    Case("dla"),
    Case("dpn"),
    Case("edsr"),
    Case("efficientnet"),
    Case("generator", {"width": 16}),
    Case("ghostnet"),
    Case("gpt", {"layers": 4, "vocabulary": 50}, TRANSFORMER, REDUCED),
    Case("hourglass"),
    Case("hrnet"),
    Case("inception"),
    Case("lstm"),
    Case("lstm", {"cell": "GRU"}),
    Case("llama", {"layers": 4}, TRANSFORMER, REDUCED),
    Case("mixer", {"layers": 6}, 0.57, HIDDEN),
    Case("mobilenet_v2"),
    Case("mobilenet_v3"),
    Case("mobilevit"),
    Case("nas", {"nodes": 300, "width": 24}),
    Case("pointnet"),
    Case("poolformer", {"width": 32}, 0.62, "the axis that is normalized of InstanceNormalization"),
    Case("recommender", {"entries": 8, "hidden": 128, "width": 32}),
    Case("repvgg"),
    Case("res2net"),
    Case("resnest"),
    Case("resnet"),
    Case("resnet", {"depth": 50, "width": 8, "batch_norm": False}),
    Case("resnext"),
    Case("senet"),
    Case("shufflenet", {"width": 32}),
    Case("shufflenet_v1", {"groups": 2}),
    Case("squeezenet"),
    Case("swin", {"width": 64}, TRANSFORMER, HIDDEN),
    Case("unet"),
    Case("unet", {"upsample": "resize", "image": "side"}),
    Case("vgg"),
    Case("vit", {"layers": 4}, TRANSFORMER, REDUCED),
    Case("wavenet"),
    Case("yolo"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_half_of_every_group(case, pruning):
    model = build(case.name, **case.sizes)
    pruned = pruning.by(model, pruning.half)
    pruning.check(pruned)
    assert pruned.coupling.channels.notes == []
    assert pruned.parameters_kept() <= case.most
    if case.why:
        assert [pinned for pinned in pruned.coupling.pinned if case.why in pinned.why]
    for batch in (1, 3):
        feed = pruning.feed(model, batch)
        before, after = Session(model).run(feed), Session(pruned.model).run(feed)
        assert {name: array.shape for name, array in after.items()} == {
            name: array.shape for name, array in before.items()
        }
        assert not np.allclose(
            *(np.concatenate([array.ravel() for array in outputs.values()]) for outputs in (before, after))
        )
        assert_sound(pruned, feed)


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_the_pass_on_a_graph_as_it_comes(case):
    model = build(case.name, **case.sizes)
    smaller = clone(model)
    outcome = Prune(ratio=0.5).run(smaller, Context(load_target("cpu"), model))
    assert outcome.changes
    assert problems(smaller) == []
    assert len(serialize(smaller)) < len(serialize(model))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_with_a_fixed_batch_and_anything_at_random(case, pruning):
    model = build(case.name, batch=2, **case.sizes)
    pruned = pruning.by(model, pruning.at_random(seed=len(case.name)))
    pruning.check(pruned)
    assert_sound(pruned, pruning.feed(model))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_weight_that_is_one_channel_off_is_noticed(case, pruning):
    """The comparison itself: it must fail when removal takes the wrong positions of one constant."""
    model = build(case.name, batch=2, **case.sizes)
    pruned = pruning.by(model, pruning.half)
    group = max(pruned.coupling.groups, key=lambda group: group.size)
    weight = pruned.model.graph.initializers[group.constants[0].value.name]
    Editor(pruned.model).set_constant(weight, np.roll(constant(weight), 1, group.constants[0].axis))
    with pytest.raises(AssertionError):
        assert_sound(pruned, pruning.feed(model))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("blocks", ["whole", "within"])
@pytest.mark.parametrize("name", ["dpn", "resnest", "shufflenet", "shufflenet_v1", "swin"])
def test_tables_of_blocks(name, blocks, seed, pruning):
    model = build(name, batch=2)
    assert_sound(pruning.by(model, pruning.at_random(seed), blocks=blocks), pruning.feed(model, seed=seed))


@pytest.mark.parametrize("name", ["conformer", "convnext", "detr", "mobilevit", "swin"])
def test_statistics_may_be_let_go(name, pruning):
    """The width that layer norms normalize shrinks too; what the model computes changes by definition."""
    model = build(name)
    pruned = pruning.by(model, pruning.half, keep_statistics=False)
    pruning.check(pruned)
    assert pruned.parameters_kept() <= CNN
    for batch in (1, 3):
        feed = pruning.feed(model, batch)
        before, after = Session(model).run(feed), Session(pruned.model).run(feed)
        assert all(np.isfinite(after[name]).all() and after[name].shape == before[name].shape for name in before)


@pytest.mark.parametrize("name", sorted(NOTHING_TO_REMOVE))
def test_where_nothing_can_go_nothing_goes(name, pruning):
    pruned = pruning.by(build(name), pruning.half)
    assert not pruned.coupling.groups
    assert pruned.parameters_kept() == 1


def test_every_family_is_here():
    assert {case.name for case in CASES} | NOTHING_TO_REMOVE == set(names())
    assert len({case.name for case in CASES}) >= 40


def test_the_original_is_left_alone(pruning):
    model = build("resnet")
    before = clone(model)
    pruning.by(model, pruning.half)
    for name, value in model.graph.initializers.items():
        np.testing.assert_array_equal(constant(value), constant(before.graph.initializers[name]))


def assert_sound(pruned, feed):
    differences = pruned.worst(feed)
    assert {name: difference for name, difference in differences.items() if not difference <= TOLERANCE} == {}
