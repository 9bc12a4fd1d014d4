"""The error of each layer: what numpy finds on the whole results, in bounded memory, and only where it means that."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.evaluation import sqnr
from graphpress.evaluation.layer_error import ELEMENTS, _draw, layer_sqnr
from graphpress.evaluation.metrics import MAX_SQNR_DB
from graphpress.ir import Editor, clone, from_proto
from graphpress.ir.encoding import AffineEncoding, set_encoding
from graphpress.ir.qdq import materialize_qdq
from graphpress.runtime import Session

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 40, 50)).astype(np.float32)
LAYERS = ["first", "second", "product"]
NETWORK = """(float[N,3,H,W] x) => (float[N,5] y) {
    [first] a = Conv <pads = [1, 1, 1, 1]> (x, v) [relu] r = Relu(a) [second] b = Conv(r, w)
    [pool] p = GlobalAveragePool(b) [flat] f = Flatten(p) [product] y = MatMul(f, m)
}"""
WEIGHTS = {"v": (12, 3, 3, 3), "w": (8, 12, 1, 1), "m": (8, 5)}


def network(opset=17, **shapes):
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {NETWORK}')
    arrays = {name: np.random.default_rng(1).normal(size=shape) for name, shape in (WEIGHTS | shapes).items()}
    constants = (numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items())
    proto.graph.initializer.extend(constants)
    return from_proto(proto)


def quantized(model, scale=0.2):
    """The model with the result of its first layer, and the weights of the second, rounded."""
    copy = clone(model)
    values = {value.name: value for node in copy.graph for value in (*node.inputs, *node.outputs)}
    for name in ("a", "w"):
        set_encoding(values[name], AffineEncoding("int8", np.float32(scale), np.int64(0)))
    return copy


def simulated(model):
    copy = clone(model)
    materialize_qdq(copy)
    return copy


def errors(reference, candidate, **options):
    settings = {"layers": LAYERS, "feed": {"x": X}} | options
    return layer_sqnr(reference, candidate, simulated(candidate), **settings)


def inner(model, name):
    return Session(model, optimization="none", extra_outputs=[name])({"x": X})[name]


def test_the_error_is_that_of_the_whole_result():
    model = network()
    candidate = quantized(model)
    found = errors(model, candidate)
    wanted = {
        layer: sqnr(inner(model, value), inner(simulated(candidate), value))
        for layer, value in {"second": "b", "product": "y"}.items()
    }
    assert found == {"first": MAX_SQNR_DB, **{layer: pytest.approx(wanted[layer], abs=0.3) for layer in wanted}}


def test_a_coarser_grid_has_a_larger_error():
    model = network()
    fine, coarse = (errors(model, quantized(model, scale))["second"] for scale in (0.2, 0.4))
    assert fine - coarse == pytest.approx(6, abs=1.5)  # a bit is 6 dB


def test_of_each_result_as_many_elements_are_drawn_whatever_its_size():
    model = network()
    results = {node.name: node.outputs[0] for node in model.graph if node.name in LAYERS}
    drawn = _draw(model, results, {"x": X}, 1)
    assert {name: result.shape for name, result in drawn.items()} == {
        "first": (2, 12, 40, 50), "second": (2, 8, 40, 50), "product": (2, 5)
    }  # fmt: skip
    assert {result.elements.shape for result in drawn.values()} == {(ELEMENTS,)}


def test_a_layer_of_another_shape_is_left_out():
    assert errors(network(), network(w=(6, 12, 1, 1), m=(6, 5))).keys() == {"first", "product"}


def test_a_layer_into_which_something_was_folded_is_left_out():
    model = network()
    candidate = clone(model)
    (relu,) = (node for node in candidate.graph if node.op_type == "Relu")
    Editor(candidate).replace(relu.outputs[0], relu.inputs[0])
    assert errors(model, candidate).keys() == {"second", "product"}


def test_what_a_backend_writes_in_several_nodes_is_one_layer():
    model = network()
    simulation = simulated(model)
    (conv,) = (node for node in simulation.graph if node.name == "first")
    edit = Editor(simulation)
    half = edit.add_constant(np.float32(0.5), "half")
    for op_type in ("Mul", "Div"):
        edit.put_behind(edit_end(conv), op_type, [half], after=edit_end(conv).producer(), name=op_type)
    assert layer_sqnr(model, model, simulation, LAYERS, {"x": X}) == dict.fromkeys(LAYERS, MAX_SQNR_DB)


def edit_end(conv):
    """The last result on the way from a convolution to its Relu."""
    value = conv.outputs[0]
    while value.uses()[0].node.op_type != "Relu":
        value = value.uses()[0].node.outputs[0]
    return value


def test_an_activation_that_the_quantizer_does_in_passing_leaves_the_layer_its_error():
    model = network()
    simulation = simulated(quantized(model))
    (relu,) = (node for node in simulation.graph if node.op_type == "Relu")
    Editor(simulation).replace(relu.outputs[0], relu.inputs[0])
    Editor(simulation).remove(relu)
    assert layer_sqnr(model, quantized(model), simulation, ["first"], {"x": X}) == {"first": MAX_SQNR_DB}


def test_layers_that_nobody_asks_for_and_operator_sets_without_the_means_give_none():
    assert errors(network(), network(), layers=[]) == {}
    old = network(opset=9)
    assert errors(old, old) == {}


def test_neither_model_is_changed():
    model, candidate = network(), quantized(network())
    nodes = [len(each.graph) for each in (model, candidate)]
    errors(model, candidate)
    assert nodes == [len(each.graph) for each in (model, candidate)]
    assert len(model.graph.outputs) == 1
