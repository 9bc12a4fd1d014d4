"""Weights that are integers, under activations that are floats: they stay in four or eight bits."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks.graphs import compiled_outputs, graph

from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.backends.tvm.artifact import write_library
from graphpress.backends.tvm.kernels.coded_blocks import CodedBlocks
from graphpress.backends.tvm.kernels.gather_rows import GatherRows
from graphpress.backends.tvm.kernels.weight_only import WeightOnlyProduct
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.ir.encoding import AffineEncoding, set_encoding
from graphpress.manager.contract import Context
from graphpress.passes.quantize.quantize_weights import QuantizeWeights
from graphpress.runtime import CompiledModel, Session
from graphpress.targets import load_target

TEXT = """(float[1,3,64] x) => (float[3,40] z) {
    a = MatMul(x, w)
    b = Add(a, bias)
    c = Relu(b)
    d = Reshape(c, shape)
    z = Gemm<transB = 1>(d, v, u)
}"""


def network():
    """Two products, the second's weights as [outputs, inputs]."""
    rng = np.random.default_rng(0)
    shapes = {"w": (64, 96), "bias": (96,), "v": (40, 96), "u": (40,)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return graph(TEXT, **weights, shape=np.array([3, 96]))


@pytest.mark.parametrize("dtype", ["int4", "int8"])
def test_quantized_weights_stay_quantized(dtype, newest, tmp_path):
    model, feed = network(), {"x": np.random.default_rng(1).standard_normal((1, 3, 64)).astype(np.float32)}
    original, target = network(), load_target("cpu")
    QuantizeWeights(dtype=dtype, block_size=32).run(model, Context(target=target, original=original))
    kernels = [step.kernel for step in lower(model, newest).steps]
    products = [kernel for kernel in kernels if isinstance(kernel, WeightOnlyProduct)]
    assert [product.bits for product in products] == [int(dtype[3:])] * 2
    delivered = OnnxRuntimeBackend().prepare(model, target).delivered
    expected = Session(delivered, optimization="none").run(feed)["z"]
    result = compiled_outputs(model, feed, newest, tmp_path)["z"]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", ["int4", "int8"])
def test_activations_are_rounded_to_eight_bits_where_the_target_rounds_them(dtype, newest, tmp_path):
    model, feed = network(), {"x": np.random.default_rng(1).standard_normal((1, 3, 64)).astype(np.float32)}
    original, target = network(), load_target("cpu")
    QuantizeWeights(dtype=dtype, block_size=32).run(model, Context(target=target, original=original))
    assert not any(isinstance(step.kernel, CodedBlocks) for step in lower(model, newest).steps)
    program = lower(model, newest, rounds_activations=target.quantization.rounds_activations)
    assert sum(isinstance(step.kernel, CodedBlocks) for step in program.steps) == 2
    write_library(program, newest, tmp_path)
    result = CompiledModel(tmp_path, 1).run(feed)["z"]
    expected = Session(OnnxRuntimeBackend().prepare(model, target).delivered, optimization="none").run(feed)["z"]
    assert 0 < np.abs(result - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize(
    "encoding",
    [
        AffineEncoding("int8", np.linspace(0.01, 0.02, 10), axis=0, zero_point=np.zeros(10)),
        AffineEncoding("int8", np.array(0.02)),
        AffineEncoding("uint4", np.linspace(0.1, 0.3, 40).reshape(10, 4), np.full((10, 4), 3), axis=1, block=16),
        AffineEncoding("uint8", np.array(0.02), np.array(128)),
    ],
    ids=["by row", "one scale", "in blocks", "unsigned"],
)
def test_rows_that_are_looked_up_stay_integers(encoding, newest, tmp_path):
    table = np.random.default_rng(0).standard_normal((10, 64)).astype(np.float32)
    model = graph("(int64[1,3] i) => (float[1,3,64] y) { a = Gather(t, i) y = Relu(a) }", t=table)
    set_encoding(next(iter(model.graph)).inputs[0], encoding)
    kernel = next(step.kernel for step in lower(model, newest).steps if isinstance(step.kernel, GatherRows))
    assert kernel.dtype == "int8"
    feed = {"i": np.array([[3, -1, 0]])}
    result = compiled_outputs(model, feed, newest, tmp_path)["y"]
    delivered = OnnxRuntimeBackend().prepare(model, load_target("cpu")).delivered
    np.testing.assert_allclose(result, Session(delivered, optimization="none").run(feed)["y"], rtol=1e-6)
