"""Float biases of integer layers, which ONNX Runtime rounds with default options: what it would spoil stands apart."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from onnx.shape_inference import infer_shapes

from graphpress.ir import from_proto, to_proto
from graphpress.runtime import write_biases_apart

WIDTH, STEP = 4, 2.0**-6
RNG = np.random.default_rng(2)
KERNEL = {"Conv": (WIDTH, WIDTH, 1, 1), "ConvTranspose": (WIDTH, WIDTH, 1, 1)}
OUTPUTS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
"""Axis of the weight along which the outputs lie."""


def integer_layer(op_type, dtype, weight_scale=2.0**-9, *, relu=False, public=False):
    """x → Q → DQ → layer(DQ weight, float bias) → Q → DQ → y, every number in one float type."""
    kind = {np.float16: TensorProto.FLOAT16, np.float32: TensorProto.FLOAT}[dtype]
    shape = KERNEL.get(op_type, (WIDTH, WIDTH))
    arrays = {
        "s": np.array(2.0**-6, dtype),
        "z": np.int8(0),
        "w_q": RNG.integers(-127, 128, shape).astype(np.int8),
        "w_s": np.full(WIDTH, weight_scale, dtype),
        "w_z": np.zeros(WIDTH, np.int8),
        "b": np.linspace(-1, 1, WIDTH).astype(dtype),
        "y_s": np.array(STEP, dtype),
    }
    nodes = [
        make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        make_node("DequantizeLinear", ["w_q", "w_s", "w_z"], ["w"], axis=OUTPUTS[op_type]),
    ]
    if op_type == "MatMul":
        nodes += [make_node("MatMul", ["d", "w"], ["p"], "layer"), make_node("Add", ["p", "b"], ["r"], "add")]
    else:
        nodes.append(make_node(op_type, ["d", "w", "b"], ["r"], "layer"))
    nodes.append(make_node("Relu" if relu else "Identity", ["r"], ["a"]))
    nodes += [
        make_node("QuantizeLinear", ["a", "y_s", "z"], ["y_q"]),
        make_node("DequantizeLinear", ["y_q", "y_s", "z"], ["y"]),
    ]
    dims = [3, WIDTH, 2, 2] if op_type in KERNEL else [3, WIDTH]
    outputs = [make_tensor_value_info(name, kind, None) for name in (["y", "r"] if public else ["y"])]
    constants = [from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = make_graph(nodes, "g", [make_tensor_value_info("x", kind, dims)], outputs, constants)
    return infer_shapes(make_model(graph, opset_imports=[make_opsetid("", 19)], ir_version=9))


def run(proto, *, optimized=True):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    x = np.random.default_rng(3).uniform(-1, 1, given.shape)
    return [
        array.astype(float)
        for array in session.run(None, {"x": x.astype((given.type == "tensor(float16)" and np.float16) or np.float32)})
    ]


def written_apart(proto):
    model = from_proto(proto)
    count = write_biases_apart(model)
    changed = to_proto(model)
    onnx.checker.check_model(changed)
    return count, changed


def apart(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("op_type", OUTPUTS)
def test_a_bias_in_half_precision_is_added_as_it_is(op_type, relu):
    given = integer_layer(op_type, np.float16, relu=relu)
    count, changed = written_apart(given)
    assert count == 1
    assert apart(run(changed), run(given, optimized=False)) <= 1.01 * STEP
    assert written_apart(changed)[0] == 0


@pytest.mark.parametrize("op_type", ["Conv", "Gemm", "MatMul"])
def test_as_it_came_it_would_be_spoilt(op_type):
    given = integer_layer(op_type, np.float16, 2.0**-13)
    assert apart(run(given), run(given, optimized=False)) > 2 * STEP


@pytest.mark.parametrize("op_type", OUTPUTS)
def test_a_bias_beyond_the_grid_of_a_tiny_scale_is_added_as_it_is(op_type):
    given = integer_layer(op_type, np.float32, 2.0**-30)
    count, changed = written_apart(given)
    assert count == 1
    assert apart(run(changed), run(given, optimized=False)) <= 1.01 * STEP


@pytest.mark.parametrize("op_type", OUTPUTS)
def test_a_bias_that_the_grid_holds_stays_where_it_is(op_type):
    given = integer_layer(op_type, np.float32)
    assert written_apart(given)[0] == 0
    assert apart(run(given), run(given, optimized=False)) <= 1.01 * STEP


@pytest.mark.parametrize("op_type", ["Conv", "Gemm"])
def test_a_result_that_is_public_keeps_its_name(op_type):
    given = integer_layer(op_type, np.float16, public=True)
    count, changed = written_apart(given)
    assert count == 1
    assert [output.name for output in changed.graph.output] == ["y", "r"]
    assert apart(run(changed), run(given, optimized=False)) <= 1.01 * STEP
