"""Every layer with weights is integer after a request for integers, or named with its reason."""

import re
from dataclasses import replace

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.ir import clone, from_proto, graphs
from graphpress.ir.encoding import compute_request
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.passes.quantize.quantize import Quantize
from graphpress.passes.quantize.quantize_weights import QuantizeWeights
from graphpress.targets import load_target

RANDOM = np.random.default_rng(2)
TEXT = """<ir_version: 10, opset_import: ["": 21]> g (int64[3,1] ids, float[1,4,6,6] image, bool go)
=> (float[3,1,9] scores, float[1,8,2,2] picture, float[3,1,8] chosen, float[1,4,6,6] small) {
    e = Gather (table, ids)
    r, s = LSTM <hidden_size=8> (e, wi, wr)
    q = Squeeze (r, one)
    h = MatMul (q, w)
    turned = Transpose <perm=[1,0]> (table)
    scores = MatMul (h, turned)
    c = Conv (image, k)
    t = ConvTranspose (c, kt)
    picture = MaxPool <kernel_shape=[2,2], strides=[3,3]> (t)
    chosen = If (go) <then_branch = a () => (float[3,1,8] p) { p = MatMul (h, w) },
                      else_branch = b () => (float[3,1,8] n) { n = Neg (h) }>
    small = Mul (image, image)
}"""
SHAPES = {
    "table": (9, 8), "wi": (1, 32, 8), "wr": (1, 32, 8), "w": (8, 8), "k": (8, 4, 3, 3), "kt": (8, 8, 2, 2),
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    proto = onnx.parser.parse_model(TEXT)
    arrays = {name: RANDOM.normal(size=shape).astype(np.float32) / 3 for name, shape in SHAPES.items()}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    model = from_proto(proto)
    prepare(model, {})
    return model


def layers(model):
    kinds = ("Gather", "LSTM", "MatMul", "Conv", "ConvTranspose")
    return [node for graph in graphs(model) for node in graph if node.op_type in kinds]


def feed():
    image = RANDOM.normal(size=(1, 4, 6, 6)).astype(np.float32)
    return {"ids": np.array([[1], [4], [8]]), "image": image, "go": np.array(True)}


@pytest.mark.parametrize("target", ["cpu", "jetson"])
@pytest.mark.parametrize("pass_", [Quantize(), QuantizeWeights(dtype="int8"), QuantizeWeights()])
def test_each_is_integer_or_listed_with_its_reason(model, pass_, target):
    context, after = Context(load_target(target), model, calibration=[feed()]), clone(model)
    if pass_.refuse(after, context) is not None:
        pytest.skip("the target does not take the pass")
    outcome = pass_.run(after, context)
    told = {refusal.where: refusal.why for refusal in outcome.refusals}
    for node in layers(after):
        assert (compute_request(node) is None) == (node.name in told), node.name
    assert len(told) == len(outcome.refusals)


def test_the_reasons(model):
    target = load_target("cpu")
    target = replace(target, quantization=replace(target.quantization, table_ops=(), body_ops=()))
    context = Context(target, model, calibration=[feed()], exclude=re.compile("ConvTranspose"))
    refusals = {refusal.where: refusal.why for refusal in Quantize().run(clone(model), context).refusals}
    assert "no integer kernel for LSTM" in refusals["LSTM_r"]
    assert "no integer kernel for Gather" in refusals["Gather_e"]
    assert "another arrangement of table" in refusals["MatMul_scores"]
    assert "lies in the graph 'a'" in refusals["MatMul_p"]
    assert refusals["ConvTranspose_t"] == "excluded by the user"


@pytest.mark.parametrize("target", ["x86-avx512-vnni", "jetson"])
def test_weights_that_came_as_integers_keep_their_codes_and_their_layer_becomes_integer(target):
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]> g (float[2,4] x) => (float[2,3] y) {
        f = Cast <to=1> (q)
        w = Mul (f, s)
        y = MatMul (x, w)
    }""")
    codes = RANDOM.integers(-100, 100, (4, 3), dtype=np.int8)
    scales = np.array([0.01, 0.02, 0.03], np.float32)
    proto.graph.initializer.extend([numpy_helper.from_array(codes, "q"), numpy_helper.from_array(scales, "s")])
    model = from_proto(proto)
    prepare(model, {})
    feeds = [{"x": RANDOM.normal(size=(2, 4)).astype(np.float32)}]
    after = clone(model)
    outcome = Quantize().run(after, Context(load_target(target), model, calibration=feeds))
    (product,) = after.graph
    assert compute_request(product) == "int8"
    assert outcome.refusals == []
    np.testing.assert_array_equal(product.inputs[1].const_value.codes.numpy(), codes)
