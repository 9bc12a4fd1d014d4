"""Quantization lowered to TensorRT: the grids it has, the ones it has not, and what becomes integer kernels."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphpress.errors import ModelError
from graphpress.ir import from_proto

RANDOM = np.random.default_rng(0)
HALF, SINGLE = np.float16, np.float32


def normal(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


def model_of(nodes, inputs, constants, output, opset=21):
    """A model of several nodes; the output's name is followed by its type and shape."""
    name, dtype, dims = output
    graph = helper.make_graph(
        [
            helper.make_node(op_type, reads, [writes], writes, **attributes)
            for op_type, reads, writes, attributes in nodes
        ],
        "graph",
        [
            helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
            for key, kind, shape in inputs
        ],
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), dims)],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def there_and_back(dtype, scale, zero_point, axis=1):
    shape = [2, 4, 6]
    nodes = [
        ("QuantizeLinear", ["x", "scale", "zero"], "q", {"axis": axis}),
        ("DequantizeLinear", ["q", "scale", "zero"], "y", {"axis": axis}),
    ]
    constants = {"scale": np.asarray(scale, dtype), "zero": zero_point}
    return model_of(nodes, [("x", dtype, shape)], constants, ("y", dtype, shape))


@pytest.mark.parametrize("dtype", [SINGLE, HALF])
@pytest.mark.parametrize("scale", [0.1, [0.1], [0.1, 0.2, 0.3, 0.4]])
def test_there_and_back(bench, dtype, scale):
    x = normal(2, 4, 6, dtype=dtype)
    zero = np.zeros(np.shape(scale), np.int8)
    network = bench.agrees(there_and_back(dtype, scale, zero), {"x": x})
    assert bench.build(network) > 0


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_any_axis_may_have_the_scales(bench, axis):
    x = normal(2, 4, 6)
    size = x.shape[axis]
    bench.agrees(there_and_back(SINGLE, np.linspace(0.1, 0.4, size), np.zeros(size, np.int8), axis), {"x": x})


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, ml_dtypes.uint4, ml_dtypes.float8_e5m2])
def test_grids_that_tensorrt_has_not(bench, kind):
    model = there_and_back(SINGLE, 0.1, np.zeros((), kind))
    with pytest.raises(ModelError, match="TensorRT has no") as raised:
        bench.lower(from_proto(model, where="test"))
    assert "q" in raised.value.where
    assert "symmetrically" in raised.value.fix


def test_a_zero_point_must_be_zero(bench):
    with pytest.raises(ModelError, match="no zero point but zero") as raised:
        bench.lower(from_proto(there_and_back(SINGLE, 0.1, np.array(3, np.int8)), where="test"))
    assert "q" in raised.value.where


def test_a_zero_point_must_be_known(bench, one_node):
    model = one_node("QuantizeLinear", {"x": normal(2, 3), "scale": np.float32([0.1]), "zero": np.zeros(1, np.int8)})
    with pytest.raises(ModelError, match="not constant"):
        bench.lower(from_proto(model, where="test"))


def test_without_a_zero_point_the_grid_is_of_unsigned_bytes(bench, one_node):
    with pytest.raises(ModelError, match="uint8"):
        bench.lower(
            from_proto(one_node("QuantizeLinear", {"x": normal(2, 3)}, {"scale": np.float32(0.1)}), where="test")
        )


def weight_only(kind, shape, scale_shape, flip, **attributes):
    """x · DQ(w), or with the weight transposed, in float16."""
    weight = RANDOM.integers(-7, 8, shape).astype(np.int8).astype(kind)
    nodes = [
        ("DequantizeLinear", ["w", "scale"], "weight", attributes),
        ("Gemm", ["x", "weight"], "y", {"transB": int(flip)}),
    ]
    rows, columns = shape[::-1] if flip else shape
    constants = {"w": weight, "scale": np.full(scale_shape, 0.1, HALF)}
    return model_of(nodes, [("x", HALF, ["batch", rows])], constants, ("y", HALF, ["batch", columns]))


BLOCKED = {
    "rows": ((128, 64), (2, 64), False, {"axis": 0, "block_size": 64}),
    "columns": ((64, 128), (64, 4), True, {"axis": 1, "block_size": 32}),
    "per channel": ((64, 128), (64,), True, {"axis": 0}),
}


@pytest.mark.parametrize("kind", [ml_dtypes.int4, np.int8])
@pytest.mark.parametrize("name", BLOCKED)
def test_weights_in_blocks(bench, kind, name):
    shape, scale, flip, attributes = BLOCKED[name]
    network = bench.lower(from_proto(weight_only(kind, shape, scale, flip, **attributes), where="test"))
    assert bench.build(network) > 0


@pytest.mark.parametrize(
    ("shape", "scale", "why"), [((127, 64), (2, 64), "blocks do not divide"), ((5, 5), (), "even number")]
)
def test_blocks_that_do_not_fit(bench, shape, scale, why):
    attributes = {"axis": 0, "block_size": 64} if scale else {}
    with pytest.raises(ModelError, match=why):
        bench.lower(from_proto(weight_only(ml_dtypes.int4, shape, scale, False, **attributes), where="test"))


def test_four_bits_are_packed_low_half_first(bench, trt):
    from graphpress.backends.tensorrt.network.types import weights

    _, data = weights(trt, np.array([1, -2, 7], ml_dtypes.int4))
    assert data.tolist() == [0x1 | 0xE0, 0x7]


def test_float8_needs_hardware_that_has_it(bench):
    kind = ml_dtypes.float8_e4m3fn
    nodes = [
        ("QuantizeLinear", ["x", "scale", "zero"], "q", {}),
        ("DequantizeLinear", ["q", "scale"], "a", {}),
        ("DequantizeLinear", ["w", "scale"], "b", {}),
        ("MatMul", ["a", "b"], "y", {}),
    ]
    weight = normal(32, 32).astype(kind)
    constants = {"w": weight, "scale": np.array(0.5, HALF), "zero": np.zeros((), kind)}
    model = model_of(nodes, [("x", HALF, [8, 32])], constants, ("y", HALF, [8, 32]))
    assert bench.build(bench.lower(from_proto(model, where="test")), "SM89") > 0
    with pytest.raises(AssertionError, match="fp8"):
        bench.build(bench.lower(from_proto(model, where="test")), "SM86")


# -- products with quantized operands -----------------------------------------------------------------------------


def test_quantized_convolution(bench):
    x = RANDOM.integers(-100, 100, (1, 4, 6, 6)).astype(np.int8)
    operands = {
        "x_scale": np.float32(0.1), "x_zero": np.int8(0),
        "w": RANDOM.integers(-100, 100, (8, 4, 3, 3)).astype(np.int8),
        "w_scale": np.linspace(0.01, 0.02, 8).astype(SINGLE), "w_zero": np.zeros(8, np.int8),
        "y_scale": np.float32(0.5), "y_zero": np.int8(0), "bias": np.arange(8, dtype=np.int32) * 100,
    }  # fmt: skip
    nodes = [("QLinearConv", ["x", *operands], "y", {"pads": [1, 1, 1, 1]})]
    constants = {key: np.asarray(one) for key, one in operands.items()}
    model = model_of(nodes, [("x", np.int8, x.shape)], constants, ("y", np.int8, [1, 8, 6, 6]))
    network = bench.agrees(model, {"x": x})
    assert bench.build(network) > 0


def test_quantized_product(bench):
    a = RANDOM.integers(-100, 100, (2, 3, 16)).astype(np.int8)
    operands = {
        "a_scale": np.float32(0.125), "a_zero": np.int8(0), "b": RANDOM.integers(-100, 100, (16, 8)).astype(np.int8),
        "b_scale": np.exp2(-np.arange(5, 13)).astype(SINGLE), "b_zero": np.zeros(8, np.int8),
        "y_scale": np.float32(0.5), "y_zero": np.int8(0),
    }  # fmt: skip
    constants = {key: np.asarray(one) for key, one in operands.items()}
    model = model_of(
        [("QLinearMatMul", ["a", *operands], "y", {})], [("a", np.int8, a.shape)], constants, ("y", np.int8, [2, 3, 8])
    )
    network = bench.agrees(model, {"a": a})
    assert bench.build(network) > 0


@pytest.mark.parametrize("op_type", ["ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"])
def test_what_stays_in_integers_is_refused(bench, one_node, op_type):
    x = np.zeros((1, 1, 4, 4), np.int8)
    if op_type == "DynamicQuantizeLinear":
        model = one_node(op_type, {"x": normal(2, 3)}, outputs=3)
    else:
        model = one_node(op_type, {"x": x}, {"w": np.zeros((1, 1, 4, 4), np.int8)})
    with pytest.raises(ModelError, match=op_type) as raised:
        bench.lower(from_proto(model, where="test"))
    assert "the node" in raised.value.where
