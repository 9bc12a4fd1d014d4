"""Trained models with labeled data, end to end: baseline, accuracy, integer layers, size."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import graphpress
from graphpress.ir import clone, load
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.passes.fusion.raise_opset import RaiseOpset
from graphpress.runtime import Session
from graphpress.targets import load_target

DATA = Path(os.environ.get("GRAPHPRESS_DATA", "/nowhere"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "index.json").is_file(), reason="needs the models that GRAPHPRESS_DATA points to"),
]


@pytest.fixture(scope="module")
def published():
    """The accuracy that each model is known to have."""
    return {entry["file"]: entry.get("baseline", {}) for entry in json.loads((DATA / "index.json").read_text())}


@pytest.fixture
def optimize(tmp_path):
    def run(model, data, target="cpu", **options):
        return graphpress.optimize(
            DATA / model, target=target, data=data, output=tmp_path / "out", threads=2, **options
        )

    return run


def arithmetic(report, op):
    return Counter(layer.became for layer in report.layers if layer.op == op)


@pytest.mark.parametrize(("model", "convolutions"), [("resnet20_cifar10.onnx", 19), ("resnet32_cifar10.onnx", 31)])
def test_resnets_are_delivered_in_integers(optimize, published, model, convolutions):
    result = optimize(model, str(DATA / "cifar10.yaml"), metric="top1")
    report = result.report
    assert result.status == "delivered"
    assert report.baseline.metric == pytest.approx(published[model]["cifar10_lossless_test500"], abs=1e-9)
    assert report.baseline.metric - report.result.metric <= 0.01
    assert arithmetic(report, "Conv") == {"int8": convolutions}
    assert report.result.bytes <= 0.4 * report.baseline.bytes
    assert report.speed.low <= report.speed.ratio <= report.speed.high
    assert report.verdict.samples == 500
    assert (result.output / "model.onnx").stat().st_size == report.result.bytes


def test_mobilenet_v1_is_delivered_or_honestly_kept(optimize, published):
    result = optimize("mobilenet_v1_0.25_224.onnx", str(DATA / "imagenet500.yaml"), metric="top1", max_drop=0.06)
    report = result.report
    known = published["mobilenet_v1_0.25_224.onnx"]["imagenet500_even"]["top1"]
    assert report.baseline.metric == pytest.approx(known, abs=1e-9)
    assert result.status in ("delivered", "kept_original")
    assert report.baseline.metric - report.result.metric <= 0.06
    assert report.baseline.latency_ms > 0
    if "int8" in arithmetic(report, "Conv"):
        assert arithmetic(report, "Conv") == {"int8": 28}
        assert report.result.bytes <= 0.4 * report.baseline.bytes
    else:
        assert report.dropped_for_worse


def test_a_model_of_an_old_operator_set_stays_within_a_point(optimize, published):
    report = optimize("mnist_opt.onnx", str(DATA / "mnist.yaml"), metric="top1").report
    assert report.status in ("delivered", "kept_original")
    assert report.baseline.metric - report.result.metric <= 0.01
    assert report.verdict.samples == 9488
    assert report.baseline.metric == pytest.approx(published["mnist_opt.onnx"]["mnist t10k, input/1"], abs=5e-4)
    repaired = next(one for one in report.passes if one.name == "repair")
    assert repaired.metric is not None
    assert abs(repaired.metric - report.baseline.metric) <= 0.01


def made_up(model):
    """A feed of normal numbers, and what the model answers."""
    session, random = Session(model), np.random.default_rng(0)
    sizes = {spec.name: [dim if isinstance(dim, int) else 1 for dim in spec.dims] for spec in session.inputs}
    feed = {name: random.normal(size=dims).astype(np.float32) for name, dims in sizes.items()}
    return feed, session.run(feed)


@pytest.mark.parametrize(
    ("model", "convolutions", "least"),
    [("yunet_n_320_320.onnx", 59, 20.0), ("basic_pitch_nmp.onnx", 32, 8.0)],
)
def test_models_without_labels_go_through_at_a_stated_noise(optimize, unlabeled, model, convolutions, least):
    """In dB; Basic Pitch computes its spectrogram by convolutions, whose range eight bits do not span."""
    report = optimize(model, unlabeled(model), metric="sqnr", max_drop=None, allow_worse=True).report
    assert report.status == "delivered"
    assert arithmetic(report, "Conv") == {"int8": convolutions}
    assert report.result.metric > least


@pytest.mark.parametrize("model", ["yunet_n_320_320.onnx", "basic_pitch_nmp.onnx"])
def test_by_default_they_agree_with_the_original(optimize, unlabeled, model):
    report = optimize(model, unlabeled(model)).report
    assert report.baseline.metric == pytest.approx(1.0)
    assert report.result.metric > 0.99


@pytest.mark.parametrize(
    "model",
    [
        "resnet20_cifar10.onnx",
        "resnet32_cifar10.onnx",
        "mobilenet_v1_0.25_224.onnx",
        "mnist_opt.onnx",
        "yunet_n_320_320.onnx",
        "basic_pitch_nmp.onnx",
    ],
)
@pytest.mark.parametrize("opset", [19, 21])
def test_every_model_is_raised_to_where_halves_and_blocks_are_written(model, opset):
    before = load(DATA / model)
    prepare(before, {})
    after = clone(before)
    outcome = RaiseOpset(to=opset).run(after, Context(target=load_target("rtx"), original=before))
    assert outcome.refusals == []
    assert after.graph.opset_imports[""] == opset
    feeds, expected = made_up(before)
    for name, array in Session(after).run(feeds).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-4)
