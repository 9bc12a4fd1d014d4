"""Criteria on graphs with attention, grouped and depthwise convolution, dense connections, shuffles, embeddings."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'graphpress[torch]'")

from graphpress.coupling import couple, unshare
from graphpress.data import load_dataset
from graphpress.errors import UsageError
from graphpress.ir import clone, load, save
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.passes.cleanup.fold_constants import FoldConstants
from graphpress.passes.prune._masking import mask
from graphpress.passes.prune.criteria import Reduction, load_criterion
from graphpress.passes.prune.criteria._roles import roles_of
from graphpress.runtime import Session
from graphpress.targets import load_target

CONVOLUTIONAL = ["resnet", "mobilenet_v2", "mobilenet_v3", "densenet", "shufflenet", "unet", "vgg"]
ATTENTION = ["vit", "bert", "gpt"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def prepared(pruning):
    """Makes a model what passes get, with its groups and the context of a run on two made-up samples."""

    def make(model):
        prepare(model, {})
        context = Context(load_target("cpu"), model)
        FoldConstants().run(model, context)
        unshare(model)
        return model, couple(model), replace(context, calibration=[pruning.feed(model, length=8)])

    return make


@pytest.mark.parametrize("family", CONVOLUTIONAL + ATTENTION)
def test_every_group_of_every_family_is_scored(family, prepared):
    model, coupling, context = prepared(build(family))
    assert coupling.groups
    for name in ("l1", "l2", "fpgm", "random", "activation", "wanda", "obs"):
        scores = load_criterion(name)().score(model, coupling, context)
        assert {key: len(array) for key, array in scores.items()} == {
            group.name: group.size for group in coupling.groups
        }
        assert all((array >= 0).all() and array.any() for array in scores.values()), name


@pytest.mark.parametrize("family", ["mobilenet_v2", "shufflenet", "vit", "gpt"])
@pytest.mark.parametrize("name", ["taylor", "fisher"])
def test_gradients_reach_every_group(family, name, prepared):
    model, coupling, context = prepared(build(family))
    scores = load_criterion(name)().score(model, coupling, context)
    assert {key: len(array) for key, array in scores.items()} == {group.name: group.size for group in coupling.groups}
    assert all(array.any() for array in scores.values())


def test_roles_in_a_transformer(prepared):
    _, coupling, _ = prepared(build("bert"))
    seen = {role for group in coupling.groups for place in group.constants for role in roles_of(place)}
    assert seen == {"writes", "reads", "elementwise"}


def test_a_group_without_the_roles_that_count_is_judged_by_all_of_its_constants(prepared):
    """The width of queries and keys is written by two weights, and read by none."""
    model, coupling, context = prepared(build("vit"))
    unread = [g for g in coupling.groups if not any("reads" in roles_of(place) for place in g.constants)]
    reads, every = (
        load_criterion("l1")(Reduction(roles=roles)).score(model, coupling, context)
        for roles in (("reads",), ("writes", "reads", "elementwise"))
    )
    for group in unread:
        np.testing.assert_array_equal(reads[group.name], every[group.name])


@pytest.mark.parametrize("name", ["l2", "fpgm", "wanda", "obs", "taylor"])
def test_weights_beside_the_model_score_as_those_within(name, tmp_path, monkeypatch, prepared):
    model, coupling, context = prepared(build("resnet", depth=20, stem="cifar", image=16))
    inside = load_criterion(name)().score(model, coupling, context)
    save(model, tmp_path / "inside.onnx")
    proto = onnx.load(tmp_path / "inside.onnx")
    onnx.save(proto, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=64)
    outside = load(tmp_path / "model.onnx")
    scores = load_criterion(name)().score(outside, couple(outside), context)
    for key, array in inside.items():
        np.testing.assert_allclose(scores[key], array, rtol=1e-6)


# -- a trained network ----------------------------------------------------------------------------------------

DATA = Path(os.environ.get("GRAPHPRESS_DATA", "/nowhere"))
real = pytest.mark.skipif(not (DATA / "resnet20_cifar10.onnx").is_file(), reason="GRAPHPRESS_DATA is not set")


@pytest.fixture(scope="module")
def resnet20():
    model = load(DATA / "resnet20_cifar10.onnx")
    prepare(model, {})
    context = Context(load_target("cpu"), model)
    FoldConstants().run(model, context)
    data = load_dataset(DATA / "cifar10.yaml", Session(model).inputs, limit=300)
    context = replace(context, calibration=data.calibration.spread(128))
    return model, couple(model), context, data.evaluation


def top1(model, samples):
    session = Session(model)
    hits = [(session.run(feed)["logits"].argmax(1) == labels).sum() for feed, labels in samples.batches()]
    return sum(hits) / samples.count


@real
@pytest.mark.parametrize("name", ["l2", "fpgm", "activation", "wanda", "obs", "taylor", "fisher"])
def test_a_fifth_of_the_inner_channels_goes_better_than_at_random(name, resnet20):
    """Inner channels: written by one convolution and read by one. At random 32 to 61 % stay right."""
    model, coupling, context, evaluation = resnet20
    scores = load_criterion(name)().score(model, coupling, context)
    pruned = clone(model)
    for group in coupling.groups:
        if len(group.constants) == 3:
            gone = np.zeros(group.size, bool)
            gone[np.argsort(scores[group.name], kind="stable")[: group.size // 5]] = True
            mask(pruned, group, gone)
    assert top1(pruned, evaluation) > 0.65


@real
def test_dead_channels_of_a_trained_network_are_found(resnet20):
    """Some of its channels have died in training: no criterion that looks at data keeps them."""
    model, coupling, context, _ = resnet20
    fires = load_criterion("activation")(statistic="apoz").score(model, coupling, context)
    dead = {name: np.flatnonzero(share == 0) for name, share in fires.items() if (share == 0).any()}
    assert dead
    for name in ("wanda", "taylor", "fisher"):
        scores = load_criterion(name)().score(model, coupling, context)
        for group, units in dead.items():
            np.testing.assert_array_equal(scores[group][units], 0)


@real
def test_batch_norms_of_a_folded_network_are_gone(resnet20):
    model, coupling, context, _ = resnet20
    with pytest.raises(UsageError, match="folded"):
        load_criterion("batch_norm")().score(model, coupling, context)
