"""Whole transformers as exporters write them, through the passes, against ONNX Runtime: in floats, and in int8."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import compiled_outputs, graph

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.backends.tvm.kernels.attention import AttentionKernel
from graphpress.backends.tvm.kernels.product import Product
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.specialization import specialized
from graphpress.ir import clone
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.manager.recipe import from_text
from graphpress.models import build
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import load_target

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

LENGTH, LAYERS = 16, 1
TEXT = {"input_ids": (1, LENGTH)}
FAMILIES = {
    "bert": TEXT | dict.fromkeys(("attention_mask", "token_type_ids"), (1, LENGTH)),
    "llama": TEXT,
    "vit": {"input": (1, 3, 32, 32)},
}
"""Shapes of the inputs by family."""


def feed_of(shapes) -> dict[str, np.ndarray]:
    """Pixels, or tokens of which the last three are hidden."""
    rng = np.random.default_rng(0)
    tokens = {name: rng.integers(0, 2, shape) for name, shape in shapes.items()}
    if "attention_mask" in tokens:
        tokens["attention_mask"] = (np.arange(LENGTH)[None] < LENGTH - 3).astype(np.int64)
    return {"input": rng.standard_normal(shapes["input"]).astype(np.float32)} if "input" in shapes else tokens


def transformer(family: str):
    """A model as the passes leave it, and an input."""
    shapes = FAMILIES[family]
    model = build(family, layers=LAYERS)
    prepare(model, shapes)
    infer_shapes(model)
    context = Context(target=load_target("cpu"), original=clone(model))
    for change in from_text("cleanup,cleanup,fuse").passes:
        change.run(model, context)
    infer_shapes(model)
    return model, {
        name: array.astype(np.int64) if name != "input" else array for name, array in feed_of(shapes).items()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_floats(family, newest, tmp_path):
    model, feed = transformer(family)
    lowered = specialized(model)
    assert any(isinstance(step.kernel, AttentionKernel) for step in lower(lowered, newest).steps)
    results = compiled_outputs(lowered, feed, newest, tmp_path)
    for name, expected in Session(model).run(feed).items():
        np.testing.assert_allclose(results[name], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_codes_are_as_near_to_onnxruntime_as_quantizing_is_to_floats(family, newest, tmp_path):
    model, feed = transformer(family)
    quantized, target = clone(model), load_target("cpu")
    Quantize().run(quantized, Context(target=target, original=model, calibration=[feed]))
    lowered = specialized(quantized)
    products = [step.kernel for step in lower(lowered, newest).steps if isinstance(step.kernel, Product)]
    assert all(product.integer for product in products)
    results = compiled_outputs(lowered, feed, newest, tmp_path)
    floats = Session(model).run(feed)
    for name, expected in Session(OnnxRuntimeBackend().prepare(quantized, target).delivered).run(feed).items():
        step = np.abs(expected - floats[name]).max()
        np.testing.assert_allclose(results[name], expected, rtol=0, atol=step)


def test_codes_of_layers_without_a_bias(newest, tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 4, 3, 3), "v": (6, 5)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    text = """(float[1, 4, 6, 8] x) => (float[1, 8, 4, 5] z) {
        a = Conv(x, w)
        b = Relu(a)
        c = Reshape(b, rows)
        z = MatMul(c, v)
    }"""
    model = graph(
        text, rows=np.array([1, 8, 4, 6]), **{name: array.astype(np.float32) for name, array in weights.items()}
    )
    feed, target = {"x": rng.standard_normal((1, 4, 6, 8)).astype(np.float32)}, load_target("cpu")
    quantized = clone(model)
    Quantize().run(quantized, Context(target=target, original=model, calibration=[feed]))
    expected = Session(OnnxRuntimeBackend().prepare(quantized, target).delivered).run(feed)["z"]
    result = compiled_outputs(quantized, feed, newest, tmp_path)["z"]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
