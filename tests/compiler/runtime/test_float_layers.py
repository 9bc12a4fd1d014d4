"""Float layers between quantizers stay float in the session that a user makes, whatever is folded into them."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from onnx.shape_inference import infer_shapes

from graphpress.ir import from_proto, to_proto
from graphpress.runtime import keep_float_layers

CHANNELS, SIDE, STEP = 6, 5, 0.05
RNG = np.random.default_rng(11)


def weight(*shape):
    """Channels of very unlike magnitude: one scale for all of them rounds most of them away."""
    array = RNG.normal(size=shape).astype(np.float32)
    return array * np.geomspace(1e-3, 1, CHANNELS, dtype=np.float32).reshape(-1, *(1,) * (len(shape) - 1))


CONV = weight(CHANNELS, CHANNELS, 3, 3)
MATRIX = np.ascontiguousarray(weight(CHANNELS, CHANNELS).T)
SHIFT = np.linspace(-1, 1, CHANNELS, dtype=np.float32)
NORM = [np.full(CHANNELS, number, np.float32) for number in (1.5, 0.25, 0.1, 0.9)]
PADS = np.array([0, 0, 1, 1, 0, 0, 1, 1])
STEPS = {
    "conv": [("Conv", [CONV], {"pads": [1] * 4})],
    "conv with a bias and Relu": [("Conv", [CONV, SHIFT], {"pads": [1] * 4}), ("Relu", [], {})],
    "depthwise": [("Conv", [CONV[:, :1].copy(), SHIFT], {"group": CHANNELS, "pads": [1] * 4})],
    "constant added": [("Conv", [CONV], {"pads": [1] * 4}), ("Add", [SHIFT.reshape(-1, 1, 1)], {})],
    "normalization": [("Conv", [CONV], {"pads": [1] * 4}), ("BatchNormalization", NORM, {}), ("Relu", [], {})],
    "pad before": [("Pad", [PADS], {}), ("Conv", [CONV, SHIFT], {})],
    "pool behind": [("Conv", [CONV, SHIFT], {"pads": [1] * 4}), ("MaxPool", [], {"kernel_shape": [2, 2]})],
    "transposition before": [("Transpose", [], {"perm": [0, 1, 3, 2]}), ("Conv", [CONV, SHIFT], {})],
    "transposed convolution": [("ConvTranspose", [CONV.swapaxes(0, 1).copy(), SHIFT], {})],
    "Gemm": [("Flatten", [], {"axis": 2}), ("Reshape", [np.array([-1, CHANNELS])], {}), ("Gemm", [MATRIX, SHIFT], {})],
    "product and sum": [("Reshape", [np.array([-1, CHANNELS])], {}), ("MatMul", [MATRIX], {}), ("Add", [SHIFT], {})],
}


def between_quantizers(steps, *, opset=13):
    """x → Q → DQ → steps → Q → DQ → y."""
    constants = [from_array(np.float32(0.02), "scale"), from_array(np.uint8(128), "zero")]
    constants += [from_array(np.float32(STEP), "out_scale")]
    nodes = [make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"])]
    nodes += [make_node("DequantizeLinear", ["q", "scale", "zero"], ["v0"])]
    for index, (op_type, arrays, attributes) in enumerate(steps):
        names = [f"c{index}_{place}" for place in range(len(arrays))]
        constants += map(from_array, arrays, names)
        nodes.append(make_node(op_type, [f"v{index}", *names], [f"v{index + 1}"], f"step{index}", **attributes))
    nodes.append(make_node("QuantizeLinear", [f"v{len(steps)}", "out_scale", "zero"], ["q_out"]))
    nodes.append(make_node("DequantizeLinear", ["q_out", "out_scale", "zero"], ["y"]))
    return model_of(nodes, "y", constants, opset)


def model_of(nodes, output, constants, opset=13):
    inputs = [make_tensor_value_info("x", TensorProto.FLOAT, [2, CHANNELS, SIDE, SIDE])]
    graph = make_graph(nodes, "g", inputs, [make_tensor_value_info(output, TensorProto.FLOAT, None)], constants)
    return infer_shapes(make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=8))


def compute_constant(proto, name, node):
    """Let a node compute what was a constant."""
    kept = [tensor for tensor in proto.graph.initializer if tensor.name != name]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    proto.graph.node.insert(0, node)


def shielded(proto):
    model = from_proto(proto)
    return keep_float_layers(model), to_proto(model)


def run(proto, *, optimized=True, path=None):
    """As a user would: a session with default options."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if path is not None:
        options.optimized_model_filepath = str(path)
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(3).uniform(-2.5, 2.5, (2, CHANNELS, SIDE, SIDE)).astype(np.float32)
    return session.run(None, {"x": x})[0]


def steps_apart(kept, given):
    """How many steps of the last quantizer lie between a model with default options and one without rewriting."""
    return round(float(np.abs(run(kept) - run(given, optimized=False)).max()) / STEP)


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_a_float_layer_computes_in_float_with_default_options(steps, tmp_path):
    given = between_quantizers(steps)
    count, kept = shielded(given)
    onnx.checker.check_model(kept)
    assert count == 1
    assert steps_apart(kept, given) <= 1
    run(kept, path=tmp_path / "ran.onnx")
    ran = onnx.load(tmp_path / "ran.onnx").graph
    assert not {"QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat"} & {node.op_type for node in ran.node}
    assert not any(tensor.data_type == TensorProto.INT8 for tensor in ran.initializer)


@pytest.mark.parametrize("name", ["conv", "transposed convolution", "normalization", "pad before"])
def test_without_the_shield_it_would_not(name):
    given = between_quantizers(STEPS[name])
    assert steps_apart(given, given) > 1


@pytest.mark.parametrize("opset", [10, 11, 13, 19])
def test_every_operator_set_with_quantizers_knows_the_shield(opset):
    given = between_quantizers(STEPS["conv with a bias and Relu"], opset=opset)
    count, kept = shielded(given)
    assert count == 1
    assert steps_apart(kept, given) <= 1


def test_once_is_enough():
    _, kept = shielded(between_quantizers(STEPS["conv"]))
    assert shielded(kept)[0] == 0


def test_a_weight_that_constants_fold_into_counts():
    given = between_quantizers(STEPS["product and sum"])
    given.graph.initializer.append(from_array(MATRIX.T.copy(), "stored"))
    compute_constant(given, "c1_0", make_node("Transpose", ["stored"], ["c1_0"]))
    count, kept = shielded(given)
    assert count == 1
    assert steps_apart(kept, given) <= 1


def test_layers_in_bodies_are_shielded_too():
    layer = between_quantizers(STEPS["conv"]).graph
    layer.node[0].input[0] = "outer"
    branch = make_graph(layer.node, "branch", [], layer.output, layer.initializer)
    nodes = [make_node("Relu", ["x"], ["outer"])]
    nodes.append(make_node("If", ["flag"], ["z"], then_branch=branch, else_branch=branch))
    given = model_of(nodes, "z", [from_array(np.array(True), "flag")])
    count, kept = shielded(given)
    assert count == 2
    assert steps_apart(kept, given) <= 1


def test_float_layers_in_a_row_are_left_alone():
    layer = ("Conv", [CONV, SHIFT], {})
    given = between_quantizers([layer, ("Relu", [], {}), layer])
    assert shielded(given)[0] == 0
    assert steps_apart(given, given) <= 1


@pytest.mark.parametrize("side", ["before", "behind"])
def test_a_layer_without_a_quantizer_on_either_side_is_left_alone(side):
    given = between_quantizers(STEPS["conv"])
    layer, last = given.graph.node[2:4]
    if side == "before":
        layer.input[0] = "x"
    else:
        last.input[0] = "x"
        given.graph.output.append(make_tensor_value_info("v1", TensorProto.FLOAT, None))
    assert shielded(given)[0] == 0


def test_integer_layers_are_left_alone():
    given = between_quantizers(STEPS["conv"])
    codes = np.round(CONV * 100).astype(np.int8)
    given.graph.initializer.extend([from_array(codes, "codes"), from_array(np.float32(0.01), "weight_scale")])
    compute_constant(given, "c0_0", make_node("DequantizeLinear", ["codes", "weight_scale"], ["c0_0"]))
    assert shielded(given)[0] == 0
