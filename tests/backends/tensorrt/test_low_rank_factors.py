"""Layers of every low-rank form build ahead of time, and it is told what each factor became."""

import numpy as np
import pytest
from text_models import model_of

from graphpress.analysis.linear import linear_op_of
from graphpress.backends.tensorrt.aot_check import check_ahead_of_time
from graphpress.backends.tensorrt.build import BuildRequest
from graphpress.backends.tensorrt.platform import Platform
from graphpress.ir import label, save
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)
NET = """(float[1,16,12,12] x) => (float[1,10] y) {
    a = Conv<pads=[1,1,1,1], strides=[2,1]>(x, w0, b0)  c = Relu(a)
    h = GlobalAveragePool(c)  i = Flatten(h)  y = Gemm<transB=1>(i, w2, b2) }"""


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32) * 0.3


@pytest.mark.parametrize("method", FORMS)
def test_every_factor_is_found_again_in_the_engine(method, rtx, tmp_path):
    model = model_of(NET, w0=normal(32, 16, 3, 3), b0=normal(32), w2=normal(10, 32), b2=normal(10))
    prepare(model, {})
    outcome = LowRank(method=method, rank=0.25, multiple=1).run(model, Context(load_target("jetson"), model))
    assert outcome.changes == 2
    factors = [label(node) for node in model.graph if linear_op_of(node) is not None]
    assert len(factors) == 2 + {"svd": 2, "tucker": 3, "spatial": 2, "cp": 4, "tt": 3, "monarch": 2}[method]
    save(model, tmp_path / "net.onnx")
    asked = dict.fromkeys(factors, "float32")
    findings = check_ahead_of_time(BuildRequest(tmp_path / "net.onnx"), Platform("10.3", proxies=("8.6",)), asked, rtx)
    assert asked.items() <= findings.became.items()
    assert findings.refusals == []
