"""Trained models with labelled data, end to end: baseline, accuracy, integer layers, size."""

import json
import os
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import graphpress
from graphpress.ir import clone, load
from graphpress.manager.contract import Context
from graphpress.passes.fusion.raise_opset import RaiseOpset
from graphpress.prepare import prepare
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
    quantize = next(one for one in report.passes if one.name == "quantize")
    assert quantize.metric is not None
    assert abs(quantize.metric - report.baseline.metric) <= 0.01


def made_up(model):
    """A feed of normal numbers, and what the model answers."""
    session, random = Session(model), np.random.default_rng(0)
    sizes = {spec.name: [dim if isinstance(dim, int) else 1 for dim in spec.dims] for spec in session.inputs}
    feed = {name: random.normal(size=dims).astype(np.float32) for name, dims in sizes.items()}
    return feed, session.run(feed)


def images():
    """Coarse coloured squares, 0 to 255."""
    coarse = np.random.default_rng(0).uniform(0, 255, (16, 3, 20, 20)).astype(np.float32)
    return coarse.repeat(16, axis=2).repeat(16, axis=3)


def recording():
    """A recording of singing, in windows of 43,844 samples at 22,050 Hz."""
    with wave.open(str(DATA / "vocadito_10.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 2**15
        assert file.getframerate() == 44100
    samples = samples[: len(samples) // 2 * 2].reshape(-1, 2).mean(axis=1)
    return samples[: len(samples) // 43844 * 43844].reshape(-1, 43844, 1)


@pytest.mark.parametrize(
    ("model", "data", "convolutions", "least"),
    [("yunet_n_320_320.onnx", images, 59, 20.0), ("basic_pitch_nmp.onnx", recording, 32, 8.0)],
)
def test_models_without_labels_go_through_at_a_stated_noise(optimize, model, data, convolutions, least):
    """In dB; Basic Pitch computes its spectrogram by convolutions, whose range eight bits do not span."""
    report = optimize(model, data(), metric="sqnr", max_drop=None, allow_worse=True).report
    assert report.status == "delivered"
    assert arithmetic(report, "Conv") == {"int8": convolutions}
    assert report.result.metric > least


@pytest.mark.parametrize(("model", "data"), [("yunet_n_320_320.onnx", images), ("basic_pitch_nmp.onnx", recording)])
def test_by_default_they_agree_with_the_original(optimize, model, data):
    report = optimize(model, data()).report
    assert report.baseline.metric == pytest.approx(1.0)
    assert report.result.metric > 0.99


@pytest.mark.parametrize(
    ("model", "data", "drop"),
    [
        ("resnet20_cifar10.onnx", "cifar10.yaml", 0.01),
        ("resnet32_cifar10.onnx", "cifar10.yaml", 0.01),
        ("mobilenet_v1_0.25_224.onnx", "imagenet500.yaml", 0.02),
        ("mnist_opt.onnx", "mnist.yaml", 0.01),
    ],
)
def test_symmetric_int8_beside_float16_for_jetson(optimize, model, data, drop):
    """What the device computes, in ONNX Runtime: symmetric activations, float biases, scales in half precision."""
    report = optimize(model, str(DATA / data), target="jetson", metric="top1", max_drop=drop).report
    assert report.status == "delivered"
    assert report.baseline.metric - report.result.metric <= drop
    products = [layer for layer in report.layers if layer.op in ("Conv", "Gemm", "MatMul")]
    assert {layer.asked for layer in products} == {"int8"}


@pytest.mark.parametrize(
    ("model", "data", "least"), [("yunet_n_320_320.onnx", images, 22.0), ("basic_pitch_nmp.onnx", recording, 20.0)]
)
def test_models_without_labels_for_jetson(optimize, model, data, least):
    """In dB; about 2.5 dB below what was measured."""
    report = optimize(model, data(), target="jetson", metric="sqnr", max_drop=None, allow_worse=True).report
    assert report.status == "delivered"
    assert report.result.metric > least
    assert {layer.asked for layer in report.layers if layer.op == "Conv"} == {"int8"}


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
def test_every_model_is_raised_to_where_halves_and_blocks_are_spelt(model, opset):
    before = load(DATA / model)
    prepare(before, {})
    after = clone(before)
    outcome = RaiseOpset(to=opset).run(after, Context(target=load_target("rtx"), original=before))
    assert outcome.refusals == []
    assert after.graph.opset_imports[""] == opset
    feeds, expected = made_up(before)
    for name, array in Session(after).run(feeds).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-4)
