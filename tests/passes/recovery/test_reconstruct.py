"""Least-squares reconstruction: exact where it can be, better where it cannot, never worse on what it did not see."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from graphpress.coupling import couple, remove
from graphpress.errors import UsageError
from graphpress.ir import clone, constant, load
from graphpress.ir.encoding import encoding_of
from graphpress.ir.sparsity import sparsity_of, sparsity_problems
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.passes.cleanup.fold_constants import FoldConstants
from graphpress.passes.quantize.quantize import Quantize
from graphpress.passes.recovery.reconstruct import Reconstruct
from graphpress.passes.sparsify.sparsify import Sparsify
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)
DATA = Path(os.environ.get("GRAPHPRESS_DATA", "/nowhere"))


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32) * 0.3


PAIR = "(float[n,3,6,6] x) => (float[n,4,6,6] y) { h = Conv<pads=[1,1,1,1]>(x, w, b)  y = Conv<pads=[1,1,1,1]>(h, v) }"


@pytest.fixture
def pair(of_text, case):
    """Two convolutions; the first computes every channel twice, and the copies are removed."""
    half, bias = normal(4, 3, 3, 3), normal(4)
    start = of_text(PAIR, w=np.concatenate([half, half]), b=np.concatenate([bias, bias]), v=normal(4, 8, 3, 3))
    kept = np.arange(4)
    model = of_text(PAIR, w=half, b=bias, v=constant(start.graph.initializers["v"])[:, :4])
    feeds = [{"x": RANDOM.normal(size=(16, 3, 6, 6)).astype(np.float32)} for _ in range(3)]
    positions = {
        "w": (kept, None, None, None),
        "b": (kept,),
        "v": (None, kept, None, None),
        "h": (None, kept, None, None),
    }
    return case(start, model, feeds, positions)


def test_what_copies_said_is_found_again(pair):
    """v x + v' x = (v + v') x: nothing was lost, and least squares finds the sum."""
    assert pair.error() > 0.3
    outcome = pair.repair(Reconstruct(ridge=1e-9))
    assert outcome.changes == 1
    assert pair.error() < 1e-4
    whole = constant(pair.start.graph.initializers["v"])
    np.testing.assert_allclose(constant(pair.weight("v")), whole[:, :4] + whole[:, 4:], atol=1e-3)


def test_it_is_numpys_solution(of_text, case):
    """One Gemm that lost inputs, all samples, no ridge: lstsq on the same rows."""
    text = "(float[n,8] x) => (float[n,3] y) { h = Relu(x)  g = Gather<axis=1>(h, i)  y = Gemm(g, w, b) }"
    start_text = "(float[n,8] x) => (float[n,3] y) { h = Relu(x)  g = Identity(h)  y = Gemm(g, w, b) }"
    weight, bias, kept = normal(8, 3), normal(3), np.array([0, 2, 5])
    start = of_text(start_text, w=weight, b=bias)
    model = of_text(text, w=weight[kept], b=bias, i=kept)
    x = (RANDOM.normal(size=(200, 8)) @ RANDOM.normal(size=(8, 8))).astype(np.float32)
    damaged = case(start, model, [{"x": x}], {"g": (None, kept), "w": (kept, None)})
    damaged.repair(Reconstruct(ridge=0))
    rows = np.maximum(x, 0).astype(np.float64)
    expected, *_ = np.linalg.lstsq(np.c_[rows[:, kept], np.ones(200)], rows @ weight + bias, rcond=None)
    np.testing.assert_allclose(constant(damaged.weight("w")), expected[:-1], atol=1e-4)
    np.testing.assert_allclose(constant(damaged.weight("b")), expected[-1], atol=1e-4)


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("resnet", {"depth": 8, "stem": "cifar", "width": 8, "image": 8, "classes": 4}),
        ("mobilenet_v2", {}),
        ("shufflenet", {}),
        ("unet", {}),
        ("bert", {}),
        ("gpt", {}),
        ("nas", {"nodes": 400}),
    ],
)
def test_every_kind_of_network_gets_better_on_data_it_did_not_see(pruned, family, sizes):
    damaged = pruned(family, **sizes)
    damaged.feeds, unseen = damaged.feeds[:-2], damaged.feeds[-2:]
    before = damaged.error(unseen)
    outcome = damaged.repair(Reconstruct())
    assert outcome.changes
    assert damaged.error(unseen) < 0.9 * before


def test_a_product_with_weights_of_its_own_for_every_sample(of_text, case):
    """Mixture of experts: the leading axis tells weights apart, and every token is a sample."""
    text = "(float[4,n,6] x) => (float[4,n,5] y) { y = MatMul(x, w) }"
    weight = normal(4, 6, 5)
    damaged = case(
        of_text(text, w=weight),
        of_text(text, w=weight + 0.1 * normal(4, 6, 5)),
        [{"x": RANDOM.normal(size=(4, count, 6)).astype(np.float32)} for count in (7, 30)],
    )
    assert damaged.repair(Reconstruct(ridge=1e-9)).changes == 1
    np.testing.assert_allclose(constant(damaged.weight("w")), weight, atol=1e-4)


def test_a_single_sample_is_not_called_held_out(pair):
    pair.feeds = [{"x": pair.feeds[0]["x"][:1]}]
    note = pair.repair(Reconstruct()).notes[0]
    assert "too few to hold any out" in note
    assert "samples held out" not in note


def test_in_front_of_an_addition_earlier_errors_are_corrected(of_text, case):
    """x + f(x), with f's first layer spoilt beyond repair but linear: the sum can still be met by what follows."""
    text = "(float[n,4] x) => (float[n,4] y) { a = Gemm(x, u)  b = Add(a, x)  c = Gemm(b, v)  y = Add(c, b) }"
    weights = {"u": normal(4, 4), "v": normal(4, 4)}
    start = of_text(text, **weights)
    model = of_text(text, **{**weights, "u": weights["u"] * np.float32(0)})
    feeds = [{"x": RANDOM.normal(size=(64, 4)).astype(np.float32)}]
    frozen = {"exclude": re.compile("never")}
    damaged = case(start, model, feeds)
    damaged.model.graph[0].name = "never"
    damaged.repair(Reconstruct(ridge=1e-9), **frozen)
    assert damaged.error() < 1e-3
    without = case(start, model, feeds)
    without.repair(Reconstruct(ridge=1e-9, residual=False), **frozen)
    assert without.error() > 0.1


def test_nothing_differs_nothing_changes(pair, case):
    whole = case(pair.start, pair.start, pair.feeds)
    outcome = whole.repair(Reconstruct())
    assert outcome.changes == 0
    assert "no layer differs" in outcome.notes[0]


def test_a_layer_that_cannot_get_better_stays_as_it_is(pruned):
    """Repairing twice: the second time finds (nearly) nothing, and says so."""
    damaged = pruned("resnet", depth=8, stem="cifar", width=8, image=8, classes=4)
    first = damaged.repair(Reconstruct())
    error = damaged.error()
    second = damaged.repair(Reconstruct())
    assert second.changes < first.changes
    assert all("held out" in refusal.why for refusal in second.refusals)
    assert damaged.error() < 1.02 * error


@pytest.mark.parametrize(
    ("context", "reason"),
    [({"transaction": None}, "no model to repair towards"), ({"calibration": None}, "calibration data")],
)
def test_it_refuses_without_start_or_data(pair, context, reason):
    assert reason in pair.repair(Reconstruct(), **context).refusals[0].why


def test_shared_weights_are_refused(of_text, case):
    text = "(float[n,4] x) => (float[n,4] y) { a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, w) }"
    weight = normal(4, 4)
    damaged = case(of_text(text, w=weight), of_text(text, w=weight * np.float32(0.5)), [{"x": normal(8, 4)}])
    outcome = damaged.repair(Reconstruct())
    assert outcome.changes == 0
    assert {refusal.why.split(",")[0] for refusal in outcome.refusals} == {"its weight has another reader"}


def test_infinities_are_refused(pair):
    pair.feeds[0]["x"][0, 0, 0, 0] = np.inf
    outcome = pair.repair(Reconstruct())
    assert outcome.changes == 0
    assert "infinite or undefined" in outcome.refusals[0].why


@pytest.mark.parametrize("options", [{"samples": 0}, {"positions": 0}, {"ridge": -1.0}, {"ridge": float("nan")}])
def test_numbers_that_make_no_sense(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        Reconstruct(**options)


def test_zeros_of_a_sparse_weight_stay(pair):
    pair.model, pair.kept = clone(pair.start), {}
    about = Context(load_target("cpu"), pair.start, calibration=pair.feeds)
    Sparsify(pattern="2:4").run(pair.model, about)
    zeros = constant(pair.weight("v")) == 0
    before = pair.error()
    assert pair.repair(Reconstruct()).changes
    assert pair.error() < before
    assert not constant(pair.weight("v"))[zeros].any()
    assert sparsity_of(pair.weight("v")).pattern == "2:4"
    assert not sparsity_problems(pair.model)


def test_encoded_weights_are_encoded_anew(pair):
    pair.model, pair.kept = clone(pair.start), {}
    about = Context(load_target("cpu"), pair.start, calibration=pair.feeds)
    Quantize(per_channel=False).run(pair.model, about)
    old = encoding_of(pair.weight("v"))
    outcome = pair.repair(Reconstruct())
    new = encoding_of(pair.weight("v"))
    assert outcome.changes
    assert (new.dtype, new.zero_point, new.axis) == (old.dtype, old.zero_point, old.axis)
    top = float(np.abs(constant(pair.weight("v"))).max()) / float(new.scale)
    assert top == pytest.approx(
        float(np.abs(constant(pair.start.graph.initializers["v"])).max()) / float(old.scale), rel=1e-4
    )


@pytest.mark.skipif(not (DATA / "index.json").is_file(), reason="needs the models that GRAPHPRESS_DATA points to")
def test_a_trained_network_wins_back_most_of_its_accuracy(case):
    """ResNet-20 without three in ten channels of every group, by magnitude: 11 % before, about 79 % after."""
    start = load(DATA / "resnet20_cifar10.onnx")
    prepare(start, {})
    FoldConstants().run(start, Context(load_target("cpu"), start))
    images = np.load(DATA / "cifar10_lossless_train5292_test500.npz")
    train, test = normalized(images["x_train"][:500]), {"input": normalized(images["x_test"])}
    model = clone(start)
    coupling = couple(model)
    kept = remove(model, coupling, {group.name: largest(group, 0.7) for group in coupling.groups})
    damaged = case(start, model, [{"input": part} for part in np.split(train, 5)], kept)

    def accuracy():
        (scores,) = Session(damaged.model).run(test).values()
        return float((scores.argmax(axis=1) == images["y_test"]).mean())

    assert accuracy() < 0.3
    damaged.repair(Reconstruct(positions=16))
    assert accuracy() > 0.7


def normalized(pixels):
    scaled = (pixels.astype(np.float32) / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def largest(group, share):
    """The units with the largest sums of magnitudes."""
    scores = np.zeros(group.size)
    for place in group.constants:
        array = constant(place.value)
        if array.ndim > 1:
            sums = np.abs(np.moveaxis(array, place.axis, 0)).reshape(array.shape[place.axis], -1).sum(axis=1)
            np.add.at(scores, place.units[place.units >= 0], sums[place.units >= 0])
    kept = np.zeros(group.size, bool)
    kept[np.argsort(-scores, kind="stable")[: round(group.size * share)]] = True
    return kept
