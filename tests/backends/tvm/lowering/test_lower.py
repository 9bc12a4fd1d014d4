"""Whole networks against ONNX Runtime: floats within rounding, quantized ones with the same integers."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from kernel_checks.graphs import graph

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.backends.tvm.artifact import write_library
from graphpress.backends.tvm.kernels.product import Product
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.errors import ModelError
from graphpress.ir import clone
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import CompiledModel, Session
from graphpress.targets import load_target

NETWORKS = {
    "basic blocks": ("resnet", {"depth": 8, "stem": "cifar", "width": 8, "batch_norm": False}),
    "stem with a pool": ("resnet", {"depth": 18, "width": 8, "batch_norm": False}),
    "dense connections": ("squeezenet", {}),
    "bottlenecks": ("resnet", {"depth": 50, "width": 8, "batch_norm": False}),
}
ON_EACH = ("basic blocks", "stem with a pool")
"""Those that are compiled for each instruction set, and not for the newest alone."""
SIZE = 32

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def network(name: str):
    """A network of fixed shapes, and an input."""
    family, options = NETWORKS[name]
    model = build(family, image=SIZE, **options)
    prepare(model, {"input": (1, 3, SIZE, SIZE)})
    infer_shapes(model)
    return model, {"input": np.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)}


def target_of(isa):
    """A target whose weights the instruction set multiplies exactly."""
    target = load_target("cpu")
    policy = replace(target.quantization, reduced_range=isa.dot.largest_weight < 127)
    return replace(target, quantization=policy)


def run(model, feed, isa, folder, threads=1):
    """The outputs of the compiled model."""
    program = lower(model, isa, threads)
    write_library(program, isa, folder)
    return CompiledModel(folder, threads).run(feed)


@pytest.mark.parametrize("name", NETWORKS)
def test_float_networks(name, newest, tmp_path):
    model, feed = network(name)
    expected = Session(model).run(feed)
    for key, value in run(model, feed, newest, tmp_path).items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_quantized_networks_give_the_same_integers(name, native_isa, newest, tmp_path):
    if native_isa is not newest and name not in ON_EACH:
        pytest.skip("its kernels are those of the others, but for their shapes")
    model, feed = network(name)
    quantized, target = clone(model), target_of(native_isa)
    Quantize().run(quantized, Context(target=target, original=model, calibration=[feed]))
    expected = Session(OnnxRuntimeBackend().prepare(quantized, target).delivered).run(feed)
    for key, value in run(quantized, feed, native_isa, tmp_path, threads=2).items():
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=2e-6)


def test_an_operator_without_kernels_is_named(isa):
    model = graph("(float[2,3] x) => (float[2,3] y) { y = RandomNormalLike(x) }")
    with pytest.raises(ModelError, match=r"node RandomNormalLike -> y: .* has no kernels"):
        lower(model, isa)


def test_weights_that_would_saturate_are_multiplied_as_floats(native_isa, tmp_path):
    model, feed = network("basic blocks")
    quantized, target = clone(model), replace(load_target("cpu"))
    full = replace(target, quantization=replace(target.quantization, reduced_range=False))
    Quantize().run(quantized, Context(target=full, original=model, calibration=[feed]))
    products = [step.kernel for step in lower(quantized, native_isa).steps if isinstance(step.kernel, Product)]
    assert any(product.integer for product in products) == (native_isa.dot.largest_weight >= 127)
    expected = Session(OnnxRuntimeBackend().prepare(quantized, full).delivered).run(feed)
    for key, value in run(quantized, feed, native_isa, tmp_path).items():
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=0.05)
