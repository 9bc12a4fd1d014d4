"""Layers of every low-rank form compile, and compute what ONNX Runtime does."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import compiled_outputs, graph

from graphpress.analysis.shapes import infer_shapes
from graphpress.ir import clone
from graphpress.manager.contract import Context
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.runtime import Session
from graphpress.targets import load_target

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

RANDOM = np.random.default_rng(0)
NET = """(float[1,8,12,12] x) => (float[1,10] y) {
    a = Conv<pads=[1,1,1,1], strides=[2,1]>(x, w0, b0)  c = Relu(a)
    d = Conv<pads=[1,1,1,1], group=2>(c, w1, b1)  e = Relu(d)
    h = GlobalAveragePool(e)  i = Flatten(h)  y = Gemm<transB=1>(i, w2, b2) }"""


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32) * 0.3


@pytest.mark.parametrize("method", FORMS)
def test_a_decomposed_network_computes_the_same(method, newest, tmp_path):
    model = graph(
        NET, w0=normal(16, 8, 3, 3), b0=normal(16), w1=normal(32, 8, 3, 3), b1=normal(32), w2=normal(10, 32),
        b2=normal(10),
    )  # fmt: skip
    feed = {"x": normal(1, 8, 12, 12)}
    decomposed = clone(model)
    context = Context(target=load_target("cpu"), original=model, calibration=[feed])
    outcome = LowRank(method=method, rank=0.25, multiple=1).run(decomposed, context)
    assert outcome.changes == 3
    infer_shapes(decomposed)
    expected = Session(decomposed).run(feed)["y"]
    result = compiled_outputs(decomposed, feed, newest, tmp_path)["y"]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
