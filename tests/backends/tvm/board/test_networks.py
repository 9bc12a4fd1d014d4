"""Whole networks for Arm in an emulator: the same integers as ONNX Runtime's, by the instructions that there are."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import compiled_outputs, graph

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.emulator import find_emulator
from graphpress.data import Feed
from graphpress.ir import Model, clone
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import load_target

ARM = "aarch64-linux-gnu"
TARGET = load_target("arm64")
INSTRUCTIONS = {"neon": {"smull", "sadalp"}, "neon-dotprod": {"sdot"}, "neon-i8mm": {"usmmla"}}
"""Integer products of each instruction set, some of which occur; those of a newer one do not."""
NEWER = {
    "neon": {"sdot", "udot", "usdot", "sudot", "smmla", "usmmla"},
    "neon-dotprod": {"usdot", "sudot", "smmla", "usmmla"},
    "neon-i8mm": set(),
}

pytestmark = pytest.mark.skipif(
    shutil.which(f"{ARM}-gcc") is None or find_emulator(ISAS["neon"]) is None,
    reason="needs gcc-aarch64-linux-gnu and qemu-user",
)

DETECTOR = """(float[1,3,16,16] x) => (float[1,64,4] boxes, float[1,64,1] scores) {
    a = Conv <kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]> (x, w0, b0)
    b = Clip(a, zero, six)
    c = MaxPool <kernel_shape = [2,2], strides = [2,2]> (b)
    d = Conv <kernel_shape = [1,1]> (c, w1, b1)
    e = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (d, , scales)
    f = Add(b, e)
    p = Conv <kernel_shape = [3,3], pads = [1,1,1,1], group = 16> (f, w2, b2)
    q = Relu(p)
    g = Conv <kernel_shape = [5,5], pads = [2,2,2,2], group = 16> (q, w5, b5)
    h = Conv <kernel_shape = [1,1]> (g, w3, b3)
    k = Conv <kernel_shape = [1,1]> (g, w4, b4)
    i = Transpose <perm = [0,2,3,1]> (h)
    boxes = Reshape(i, four)
    l = Sigmoid(k)
    m = Transpose <perm = [0,2,3,1]> (l)
    scores = Reshape(m, single)
}"""


ENCODER = """(float[1,9,32] x) => (float[1,9,32] y) {
    q = MatMul(x, m0)
    k = MatMul(x, m1)
    v = MatMul(x, m2)
    q1 = Reshape(q, heads)
    k1 = Reshape(k, heads)
    v1 = Reshape(v, heads)
    q2 = Transpose <perm = [0,2,1,3]> (q1)
    k2 = Transpose <perm = [0,2,3,1]> (k1)
    v2 = Transpose <perm = [0,2,1,3]> (v1)
    scores = MatMul(q2, k2)
    p = Softmax <axis = -1> (scores)
    o = MatMul(p, v2)
    o1 = Transpose <perm = [0,2,1,3]> (o)
    o2 = Reshape(o1, rows)
    o3 = MatMul(o2, m3)
    r = Add(x, o3)
    n = LayerNormalization <axis = -1> (r, scale, bias)
    h = MatMul(n, up)
    g = Gelu(h)
    d = MatMul(g, down)
    s = Add(n, d)
    y = LayerNormalization <axis = -1> (s, scale, bias)
}"""


@dataclass(frozen=True)
class Network:
    """A model in floats and quantized, an input, and what ONNX Runtime makes of both."""

    floats: Model
    codes: Model
    feed: Feed
    float_outputs: Feed
    code_outputs: Feed


def weights(*shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Kernels that keep the size of what they multiply, and biases."""
    rng = np.random.default_rng(0)
    named = {}
    for number, shape in enumerate(shapes):
        named[f"w{number}"] = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        named[f"b{number}"] = rng.standard_normal(shape[0]) / 4
    return {name: array.astype(np.float32) for name, array in named.items()}


def residual() -> Model:
    return build("resnet", depth=8, stem="cifar", width=8, image=16, batch_norm=False)


def detector() -> Model:
    shapes = ((16, 3, 3, 3), (16, 16, 1, 1), (16, 1, 3, 3), (4, 16, 1, 1), (1, 16, 1, 1), (16, 1, 5, 5))
    numbers = {"scales": np.float32([1, 1, 2, 2]), "zero": np.float32(0), "six": np.float32(6)}
    numbers |= {"four": np.array([1, 64, 4]), "single": np.array([1, 64, 1])}
    return graph(DETECTOR, **numbers, **weights(*shapes))


def encoder() -> Model:
    named = {f"m{number}": np.random.default_rng(number).standard_normal((32, 32)) / 6 for number in range(4)}
    named |= {"up": np.ones((32, 64)) / 8, "down": np.ones((64, 32)) / 8, "scale": np.ones(32), "bias": np.zeros(32)}
    named = {name: array.astype(np.float32) for name, array in named.items()}
    named["up"][::2, ::3] = named["down"][1::2, ::5] = -0.25
    return graph(ENCODER, heads=np.array([1, 9, 2, 16]), rows=np.array([1, 9, 32]), **named)


NETWORKS = {"residual": residual, "detector": detector, "encoder": encoder}
CLOSE = {"encoder": 0.03}
"""Relative to the largest number: a sum that rounds otherwise may come to lie on the next code. Elsewhere all integers
are the same.
"""


@cache
def network(name: str) -> Network:
    """A network, quantized as for a board."""
    floats, rng = NETWORKS[name](), np.random.default_rng(0)
    (value,) = floats.graph.inputs
    feed = {value.name: rng.standard_normal((1, *list(value.shape)[1:])).astype(np.float32)}
    prepare(floats, {key: array.shape for key, array in feed.items()})
    infer_shapes(floats)
    codes = clone(floats)
    Quantize().run(codes, Context(target=TARGET, original=floats, calibration=[feed]))
    delivered = OnnxRuntimeBackend().prepare(codes, TARGET).delivered
    return Network(floats, codes, feed, Session(floats).run(feed), Session(delivered).run(feed))


@pytest.mark.parametrize("name", NETWORKS)
def test_float_networks(name, tmp_path):
    net = network(name)
    results = compiled_outputs(net.floats, net.feed, ISAS["neon"], tmp_path, threads=2)
    for key, expected in net.float_outputs.items():
        np.testing.assert_allclose(results[key], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("isa", INSTRUCTIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_quantized_networks(name, isa, tmp_path):
    net = network(name)
    results = compiled_outputs(net.codes, net.feed, ISAS[isa], tmp_path, threads=2)
    for key, expected in net.code_outputs.items():
        close = CLOSE.get(name, 2e-6) * np.abs(expected).max()
        np.testing.assert_allclose(results[key], expected, rtol=0, atol=close)
    words = instructions(tmp_path / "libmodel.a")
    assert words & INSTRUCTIONS[isa]
    assert not words & NEWER[isa]


def instructions(library: Path) -> set[str]:
    """The mnemonics in a library."""
    command = [f"{ARM}-objdump", "--disassemble", "--no-show-raw-insn", library]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.split("\t")[1].strip() for line in text.splitlines() if line.count("\t") >= 1}
