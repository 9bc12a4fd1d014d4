"""Nodes that leave out an optional output in front of others: no pass takes the gap for a value."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.ir import clone, from_proto, label
from graphpress.ir.encoding import float_type
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.prepare import prepare
from graphpress.manager.recipe import from_text
from graphpress.targets import load_target

RANDOM = np.random.default_rng(3)
TEXT = """<ir_version: 10, opset_import: ["": 17]> g (float[5,2,8] x) => (float[2,2] y, float[2,8] c) {
    e = MatMul (x, w)
    , h, cell = LSTM <hidden_size=8> (e, wi, wr)
    , g = GRU <hidden_size=8> (e, gi, gr)
    s = Add (h, g)
    flat = Squeeze (s, first)
    c = Squeeze (cell, first)
    d = MatMul (flat, w)
    r = Relu (d)
    y = MatMul (r, head)
}"""
WEIGHTS = {
    "w": (8, 8), "wi": (1, 32, 8), "wr": (1, 32, 8), "gi": (1, 24, 8), "gr": (1, 24, 8), "head": (8, 2),
}  # fmt: skip
RECIPES = [
    "cleanup,fuse",
    "quantize,correct_bias",
    "quantize,reconstruct",
    "quantize_weights",
    "reduce_precision",
    "quantize,reduce_precision",
    "prune{ratio=0.25}",
    "sparsify",
    "prune_depth",
    "prune{ratio=0.25},distill{steps=1}",
]


@pytest.fixture(scope="module")
def model():
    proto = onnx.parser.parse_model(TEXT)
    arrays = {name: RANDOM.normal(size=shape).astype(np.float32) / 3 for name, shape in WEIGHTS.items()}
    arrays["first"] = np.array([0])
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    model = from_proto(proto)
    prepare(model, {})
    return model


def run(model, passes):
    feeds = [{"x": RANDOM.normal(size=(5, 2, 8)).astype(np.float32)} for _ in range(4)]
    context = Context(load_target("jetson"), clone(model), calibration=feeds)
    return Manager(context, NoEvaluator(), feeds[:1], strict=True).run(clone(model), from_text(passes))


@pytest.mark.parametrize("passes", RECIPES)
def test_no_pass_breaks_on_them(model, passes):
    done = run(model, passes)
    assert not any(pass_run.failure for pass_run in done.pass_runs)
    assert not any("unnamed" in refusal.where for pass_run in done.pass_runs for refusal in pass_run.refusals)


def test_half_precision_comes_to_their_nodes(model):
    after = run(model, "reduce_precision").checkpoints[-1].model
    assert {node.op_type for node in after.graph if float_type(node) == "float16"} >= {"LSTM", "GRU", "MatMul"}


def test_a_nameless_node_is_called_by_a_result_that_it_has(model):
    names = [node.name for node in model.graph if node.op_type in ("LSTM", "GRU")]
    assert names == ["LSTM_h", "GRU_g"]
    lstm = next(node for node in clone(model).graph if node.op_type == "LSTM")
    lstm.name = None
    assert label(lstm) == "LSTM -> h"
