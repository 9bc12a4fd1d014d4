"""Channels on an axis that holds the batch as well: what is observed has another length in every run."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper, parser

from graphpress import ir
from graphpress.coupling import couple
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.passes.prune.criteria import load_criterion
from graphpress.targets import load_target

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
merged (float[n,3,6,6] x) => (float[n,4] y) {
    wide = Conv(x, first)
    flat = Reshape(wide, to_flat)
    fired = Relu(flat)
    back = Reshape(fired, to_back)
    y = Einsum<equation = "nchw,co->no">(back, last)
}"""


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", ["activation", "wanda", "obs", "l2"])
def test_every_channel_gets_a_score(name, batch):
    rng = np.random.default_rng(0)
    proto = parser.parse_model(TEXT)
    constants = {
        "first": rng.normal(size=(12, 3, 1, 1)).astype(np.float32),
        "last": rng.normal(size=(12, 4)).astype(np.float32),
        "to_flat": np.array([-1, 6, 6]),
        "to_back": np.array([-1, 12, 6, 6]),
    }
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    model = ir.from_proto(proto)
    prepare(model, {})
    data = [{"x": rng.normal(size=(size, 3, 6, 6)).astype(np.float32)} for size in (batch, batch + 1)]
    context = Context(load_target("cpu"), model, calibration=data)
    scores = load_criterion(name)().score(model, couple(model), context)
    assert [values.shape for values in scores.values()] == [(12,)]
