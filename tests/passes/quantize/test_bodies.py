"""Products inside If and Loop: weights in integers, in the body that reads them."""

import numpy as np
import onnx
import pytest

from graphpress.backend import CompileOptions
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.ir import graphs
from graphpress.ir.encoding import compute_request
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import load_target

SIZE = 512
BRANCHES = """(float[N,512] x, bool go) => (float[N,512] y) {
    y = If (go) <then_branch = a () => (float[N,512] p) { h = MatMul (x, w) p = MatMul (h, v) },
                 else_branch = b () => (float[N,512] n) { n = MatMul (x, w) }>
}"""
LOOP = """(float[1,512] x, int64 count) => (float[1,512] y) {
    y = Loop (count, , x) <body = step (int64 i, bool go, float[1,512] state) => (bool on, float[1,512] next) {
        on = Identity (go) next = MatMul (state, w) }>
}"""


@pytest.fixture
def feeds():
    random = np.random.default_rng(0)
    x = random.normal(size=(1, SIZE)).astype(np.float32)
    return {
        "branches": [{"x": x, "go": np.array(go)} for go in (True, False)],
        "loop": [{"x": x, "count": np.array(3)}],
    }


def square(weights, seed=0):
    return weights.of(SIZE, SIZE, seed=seed) / 8


def body_kernels(done, folder):
    Session(done.legal(), optimized_path=folder / "optimized.onnx")
    nodes = onnx.load(folder / "optimized.onnx").graph.node
    bodies = [attribute.g for node in nodes for attribute in node.attribute if attribute.g.node]
    return sorted(node.op_type for body in bodies for node in body.node)


def inner(model):
    return [node for graph in graphs(model) if graph is not model.graph for node in graph if node.op_type == "MatMul"]


def test_branches_that_share_a_captured_weight(build, quantize, weights, feeds, tmp_path):
    done = quantize(build(BRANCHES, w=square(weights), v=square(weights, 1)), feeds["branches"])
    assert {compute_request(node) for node in inner(done.model)} == {"weight-only"}
    assert not done.refused
    assert body_kernels(done, tmp_path) == ["MatMulNBits"] * 3
    assert min(done.sqnr().values()) > 35


def test_a_loop(build, quantize, weights, feeds, tmp_path):
    done = quantize(build(LOOP, w=square(weights)), feeds["loop"])
    assert "MatMulNBits" in body_kernels(done, tmp_path)
    assert min(done.sqnr().values()) > 30


def test_a_small_weight_is_named(build, quantize, weights):
    text = BRANCHES.replace("512", "64")
    feeds = [{"x": np.ones((1, 64), np.float32), "go": np.array(True)}]
    done = quantize(build(text, w=weights.of(64, 64), v=weights.of(64, 64)), feeds)
    assert all("to expand 4096 numbers would take longer" in done.refused[node.name] for node in inner(done.model))


@pytest.mark.parametrize("target", ["jetson"])
def test_a_target_that_expands_no_weights_in_bodies_says_so(build, quantize, weights, feeds, target):
    model = build(BRANCHES, w=square(weights), v=square(weights))
    done = quantize(model, feeds["branches"], target=load_target(target), one=Quantize())
    assert all("where nothing is observed" in done.refused[node.name] for node in inner(done.model))


def test_what_runs_in_a_body_is_reported(build, quantize, weights, feeds, tmp_path):
    done = quantize(build(BRANCHES, w=square(weights), v=square(weights, 1)), feeds["branches"])
    backend, target = OnnxRuntimeBackend(), load_target("cpu")
    artifact = backend.compile(backend.prepare(done.model, target), CompileOptions(target), tmp_path)
    became = artifact.findings().became
    assert {became[node.name] for node in inner(done.model)} == {"int8"}
