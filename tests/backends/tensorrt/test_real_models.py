"""The main job for a Jetson on real models: accuracy in ONNX Runtime, every expected checked with NVIDIA's compiler."""

import json
import os
from pathlib import Path

import pytest

from graphpress import optimize
from graphpress.backends.tensorrt.toolchain import find_toolchain

DATA = os.environ.get("GRAPHPRESS_DATA")
PRODUCTS = ("Conv", "Gemm", "MatMul")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DATA is None, reason="GRAPHPRESS_DATA is not set: no real models here"),
]

needs_compiler = pytest.mark.skipif(
    find_toolchain("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: pip install 'graphpress[tensorrt]'"
)


def for_jetson(model, data, out, **options):
    return optimize(Path(DATA) / f"{model}.onnx", target="jetson", data=data, output=out, threads=2, **options)


def unmet_precisions(report):
    """Products that were asked for int8 and became something else, without a reason in the report."""
    explained = {one.where for one in report.refusals}
    asked = [one for one in report.layers if one.op in PRODUCTS and one.asked == "int8"]
    assert asked, "nothing was quantized"
    return [one.name for one in asked if one.became != "int8" and one.name not in explained]


@needs_compiler
@pytest.mark.parametrize(
    ("model", "data", "budget"),
    [
        ("resnet20_cifar10", "cifar10", 0.01),
        ("resnet32_cifar10", "cifar10", 0.01),
        ("mnist_opt", "mnist", 0.01),
        ("mobilenet_v1_0.25_224", "imagenet500", 0.02),
    ],
)
def test_accuracy_holds_and_expected_precisions_are_kept(tmp_path, model, data, budget):
    result = for_jetson(model, Path(DATA) / f"{data}.yaml", tmp_path / "out", max_drop=budget, eval_limit=500)
    report = result.report
    assert result.status == "delivered"
    assert report.verdict.drop <= budget
    assert unmet_precisions(report) == []
    assert any("checked on proxy SM80/86" in note and "not executed" in note for note in report.notes)
    assert report.unverified
    expected = json.loads((tmp_path / "out" / "expected.json").read_text())
    assert {one["asked"] for one in expected["layers"]} >= {"int8", "float16"}


@needs_compiler
@pytest.mark.parametrize(("model", "least"), [("yunet_n_320_320", 22.0), ("basic_pitch_nmp", 20.0)])
def test_noise_without_labels_and_expected_precisions_are_kept(tmp_path, unlabeled, model, least):
    """In dB; about 2.5 dB below what was measured."""
    report = for_jetson(
        model, unlabeled(model), tmp_path / "out", metric="sqnr", max_drop=None, allow_worse=True
    ).report
    assert report.status == "delivered"
    assert report.result.metric > least
    assert unmet_precisions(report) == []
    assert {layer.asked for layer in report.layers if layer.op == "Conv"} == {"int8"}


@needs_compiler
def test_every_product_of_a_float_engine_is_found_in_its_list_of_layers(tmp_path):
    """Else what it became would stay unknown, and nobody would notice."""
    model = "mobilenet_v1_0.25_224"
    report = for_jetson(model, None, tmp_path / "out", recipe="float16", verify="none").report
    products = [one for one in report.layers if one.op in PRODUCTS]
    assert {one.became for one in products} == {"float16"}
    assert not [one for one in report.unverified if "what became of" in one]
