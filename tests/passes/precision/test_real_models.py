"""Trained models in half precision, on real data."""

import os
from pathlib import Path

import numpy as np
import pytest

from graphpress.data import load_dataset
from graphpress.evaluation import evaluate, resolve_metric
from graphpress.ir import load
from graphpress.ir.encoding import float_type
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.passes.fusion.raise_opset import RaiseOpset
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import load_target

DATA = Path(os.environ.get("GRAPHPRESS_DATA", "/nowhere"))

pytestmark = pytest.mark.skipif(
    not (DATA / "index.json").is_file(), reason="needs the models that GRAPHPRESS_DATA points to"
)


def open_model(name):
    model = load(DATA / name)
    prepare(model, {})
    return model


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("resnet20_cifar10.onnx", "cifar10.yaml"),
        ("mobilenet_v1_0.25_224.onnx", "imagenet500.yaml"),
        ("mnist_opt.onnx", "mnist.yaml"),
    ],
)
def test_classifiers_keep_their_accuracy(reduce, name, data):
    """Within one image of a hundred."""
    model = open_model(name)
    samples = load_dataset(DATA / data, Session(model).inputs, limit=100)
    feeds = list(samples.calibration.spread(32))
    metric = resolve_metric("top1", has_labels=True)
    done = reduce(model, feeds)
    assert done.refused == {}
    assert all(float_type(node) == "float16" for node in done.model.graph if node.op_type in ("Conv", "Gemm", "MatMul"))
    floats = evaluate(Session(model), samples.evaluation, metric).value
    for simulate in (False, True):
        assert abs(evaluate(Session(done.legal(simulate)), samples.evaluation, metric).value - floats) <= 0.01 + 1e-9


def test_a_resnet_in_integers_and_float16(reduce):
    """The grid is the same as with float32 around it, and so is the accuracy, within two images of a hundred."""
    model = open_model("resnet20_cifar10.onnx")
    samples = load_dataset(DATA / "cifar10.yaml", Session(model).inputs, limit=100)
    feeds = list(samples.calibration.spread(64))
    context = Context(target=load_target("jetson"), original=model, calibration=feeds)
    RaiseOpset(to=19).run(model, context)
    floats = evaluate(Session(model), samples.evaluation, resolve_metric("top1", has_labels=True)).value
    Quantize().run(model, context)
    done = reduce(model, feeds)
    for simulate in (False, True):
        score = evaluate(
            Session(done.legal(simulate)), samples.evaluation, resolve_metric("top1", has_labels=True)
        ).value
        assert floats - score <= 0.02 + 1e-9


def test_a_spectrogram_keeps_what_its_logarithm_tells_from_zero(reduce, recording):
    """Basic Pitch adds 1e-10 before a logarithm: with squares in float16 quiet passages would be silent."""
    model = open_model("basic_pitch_nmp.onnx")
    name = model.graph.inputs[0].name
    done = reduce(model, [{name: one[None]} for one in recording[:4]])
    kept = {node.op_type for node in model.graph if node.name in done.refused}
    assert {"Log", "Add", "Mul"} <= kept or {"Log", "Add", "Pow"} <= kept
    assert "Conv" not in kept
    assert done.error() < 0.1


def test_a_face_detector(reduce):
    model = open_model("yunet_n_320_320.onnx")
    feed = {model.graph.inputs[0].name: np.random.default_rng(0).uniform(0, 255, (1, 3, 320, 320)).astype(np.float32)}
    done = reduce(model, [feed])
    assert done.refused == {}
    assert done.error() < 0.03
