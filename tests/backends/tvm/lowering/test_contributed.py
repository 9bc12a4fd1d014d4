"""Operators of ONNX Runtime's own domain: what its optimizers write is taken apart, and computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.backend import CompileOptions
from graphpress.backends.tvm.backend import TvmBackend, in_standard_operators
from graphpress.backends.tvm.kernels.attention import AttentionKernel
from graphpress.backends.tvm.lowering.contributed import is_contributed
from graphpress.ir import from_proto
from graphpress.runtime import Session
from graphpress.targets import load_target

pytestmark = pytest.mark.usefixtures("here")

CPU = CompileOptions(load_target("cpu"))
RNG = np.random.default_rng(0)
LAYER = """(int32[1,6] ids, int32[1,6] segments, float[2,6,12] x, int32[2,6] seen, float[2,12,6] t,
    float[1,4,5,5] image, float[1,4,5,5] skip) => (
    float[1,6,12] embedded, float[2,6,12] y, float[2,6,12] s, float[2,6,12] many, float[2,6,12] rms,
    float[2,12,12] turned, float[1,4,5,5] fused, float[6,7] dense) {
    embedded, counted = com.microsoft.EmbedLayerNormalization(ids, segments, words, places, kinds, g, b)
    attended = com.microsoft.Attention<num_heads = 3>(x, packed, packed_bias, seen)
    normal, m, v, s = com.microsoft.SkipLayerNormalization<epsilon = 0.001>(attended, x, g, b, more)
    wide = com.microsoft.FusedMatMul<alpha = 0.5, transB = 1>(normal, w)
    fast = com.microsoft.FastGelu(wide, more)
    exact = com.microsoft.BiasGelu(fast, more)
    quick = com.microsoft.QuickGelu(exact)
    y = com.microsoft.Gelu(quick)
    many = com.microsoft.MultiHeadAttention<num_heads = 3, unidirectional = 1>(normal, x, y, packed_bias)
    rms = com.microsoft.SkipSimplifiedLayerNormalization(many, x, g)
    turned = com.microsoft.FusedMatMul<transA = 1, transB = 1>(x, t)
    fused = com.microsoft.FusedConv<pads = [1, 1, 1, 1], activation = "LeakyRelu", activation_params = [0.2]>(
        image, kernel, channels, skip)
    rows = Reshape(embedded, two)
    dense = com.microsoft.FusedGemm<activation = "Relu", transB = 1>(rows, gemm, seven)
}"""


def constants() -> dict[str, np.ndarray]:
    """Weights of all kinds."""
    shapes = {"words": (9, 12), "places": (8, 12), "kinds": (2, 12), "g": 12, "b": 12, "more": 12, "packed": (12, 36),
              "packed_bias": 36, "w": (12, 12), "kernel": (4, 4, 3, 3), "channels": 4, "gemm": (7, 12),
              "seven": 7}  # fmt: skip
    return {name: RNG.standard_normal(shape).astype(np.float32) * 0.5 for name, shape in shapes.items()}


def parsed(text: str, **weights: np.ndarray):
    """A model of the parser's text."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 17, "com.microsoft": 1]> g {text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return from_proto(proto)


def test_all_compute_what_onnxruntime_does(tmp_path):
    model = parsed(LAYER, two=np.array([6, 12]), **constants())
    feed = {
        "ids": RNG.integers(0, 9, (1, 6)).astype(np.int32),
        "segments": RNG.integers(0, 2, (1, 6)).astype(np.int32),
        "seen": (np.arange(6) < np.array([[6], [4]])).astype(np.int32),
        **{
            value.name: RNG.standard_normal(value.shape.numpy()).astype(np.float32)
            for value in model.graph.inputs
            if value.name not in ("ids", "segments", "seen")
        },
    }
    backend = TvmBackend()
    artifact = backend.compile(backend.prepare(model, CPU.target), CPU, tmp_path)
    assert not artifact.findings().refusals
    assert sum(isinstance(step.kernel, AttentionKernel) for step in artifact.program.steps) == 2
    results = artifact.run(feed)
    for name, expected in Session(model).run(feed).items():
        np.testing.assert_allclose(results[name], expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize(
    "text",
    [
        "(float[1,4,12] x, int32[1] lengths) => (float[1,4,12] y) { "
        "y = com.microsoft.Attention<num_heads = 3>(x, packed, packed_bias, lengths) }",
        "(float[1,4,12] x) => (float[1,4,12] y, float[1,4,1] m) { "
        "y, m = com.microsoft.SkipLayerNormalization(x, x, g, b) }",
        "(float[1,12] x) => (float[1,7] y) { "
        "y = com.microsoft.FusedGemm<activation = \"Softplus\", transB = 1>(x, gemm) }",
        "(float[1,12] x) => (float[1,12] y) { y = com.microsoft.Inverse(x) }",
        "(int32[1,6] ids) => (float[1,6,12] y, int32[1] n) { "
        "y, n = com.microsoft.EmbedLayerNormalization(ids, , words, places, , g, b) }",
        "(float[1,12] x) => (float[1,7] y) { "
        "y = com.microsoft.FusedGemm<activation = \"HardSigmoid\", activation_beta = 0.4, transB = 1>(x, gemm) }",
        "(float[12] x) => (float[12] y) { y = com.microsoft.FusedMatMul<transA = 1>(x, w) }",
    ],
)  # fmt: skip
def test_what_has_no_equivalent_stays_whole(text):
    model = parsed(text, **constants())
    after = in_standard_operators(model, CPU.target)
    assert [node.domain for node in after.graph] == ["com.microsoft"]
    assert not any(node.domain == "" for node in after.graph if is_contributed(node))
