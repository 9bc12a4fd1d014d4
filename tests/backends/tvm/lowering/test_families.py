"""Convolutional networks of many families: floats within rounding, quantized ones with the integers of ONNX Runtime."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.backends.tvm.artifact import write_library
from graphpress.backends.tvm.kernels.generic import GenericLoops
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.ir import Model, clone
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.passes.fusion.fold_batch_norm import FoldBatchNorm
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import CompiledModel, Session
from graphpress.targets import load_target

SIZE = 32
FLOATS = ("detector", "generator")
"""Networks with transposed convolutions, resizes and heads that are turned."""
CODES = ("res2net", "shufflenet")
"""Networks with splits, joins and shuffled channels."""

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def network(family: str) -> tuple[Model, dict[str, np.ndarray]]:
    """A network of fixed shapes, its normalizations folded, and an input."""
    model = build(family, **({} if family == "generator" else {"image": SIZE}))
    source = model.graph.inputs[0]
    shape = (1, 16) if family == "generator" else (1, 3, SIZE, SIZE)
    prepare(model, {source.name: shape})
    FoldBatchNorm().run(model, Context(target=load_target("cpu"), original=model))
    infer_shapes(model)
    return model, {source.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}


def run(model: Model, feed: dict[str, np.ndarray], isa, folder) -> dict[str, np.ndarray]:
    """The outputs of the compiled model, all of whose nodes have kernels of our own."""
    program = lower(model, isa)
    assert [step.nodes for step in program.steps if isinstance(step.kernel, GenericLoops)] == []
    write_library(program, isa, folder)
    return CompiledModel(folder, threads=1).run(feed)


@pytest.mark.parametrize("family", FLOATS)
def test_floats(family, newest, tmp_path):
    model, feed = network(family)
    expected = Session(model).run(feed)
    for name, value in run(model, feed, newest, tmp_path).items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(value / scale, expected[name] / scale, rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("family", CODES)
def test_codes(family, newest, tmp_path):
    model, feed = network(family)
    quantized, target = clone(model), load_target("cpu")
    Quantize().run(quantized, Context(target=target, original=model, calibration=[feed]))
    expected = Session(OnnxRuntimeBackend().prepare(quantized, target).delivered).run(feed)
    for name, value in run(quantized, feed, newest, tmp_path).items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=2e-6)
