"""Types of layers: read off what TensorRT really says, node by node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from graphpress.backends.tensorrt.engine_layers import (
    EngineLayer,
    QuantizationRole,
    layers_of_engine,
    parse_layers,
    types_of_nodes,
)
from graphpress.backends.tensorrt.quantization_roles import quantization_roles
from graphpress.ir import load

HALF, FLOAT, BF16 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.BFLOAT16
FP8, INT4 = TensorProto.FLOAT8E4M3FN, TensorProto.INT4
WORDS = {HALF: "float16", FLOAT: "float32", BF16: "bfloat16"}

DUMP = """Layers:
Name: conv_myl0_1, LayerType: correlation, Inputs: [ { Name: a, Dimensions: [1,3], Strides: [3,1], StrideOrder: [1,0], \
Datatype: Int8, Format: (NHWC) Channel major format }], Constants: [ { Name: w, Dimensions: [3], Strides: [1], \
StrideOrder: [0], Datatype: Int8, Format: x }, { Name: s, Dimensions: [1], Strides: [1], StrideOrder: [0], Datatype: \
Float, Format: x }], Outputs: [ { Name: y, Dimensions: [1], Strides: [1], StrideOrder: [0], Datatype: Half, Format: x \
}], TacticName: __stub, StreamId: 0, Metadata: [ONNX Layer: /block.0/conv [Conv]]\x1e[ONNX Layer: a, b/dq]
Name: tail, LayerType: shape_call, Inputs: [], Outputs: [], TacticName: , StreamId: 0, Metadata:

I/O Tensors:
 Name: x, IOMode: Input, DataType: Half"""


def test_reads_the_list_of_layers():
    conv, tail = parse_layers(DUMP)
    assert conv == EngineLayer(
        "conv_myl0_1",
        "correlation",
        ("Int8",),
        ("Int8", "Float"),
        ("Half",),
        ("/block.0/conv [Conv]", "a, b/dq"),
    )
    assert tail == EngineLayer("tail", "shape_call", (), (), (), ())


def test_words_may_stand_behind_the_name_of_a_node():
    """Seen where a convolution of one pixel becomes a product."""
    metadata = "[ONNX Layer: fc [x]]__gemm_from_conv1x1\x1f[ONNX Layer: b]"
    (layer,) = parse_layers(f"Name: a, LayerType: gemm, Metadata: {metadata}")
    assert layer.nodes == ("fc [x]", "b")


@given(st.text())
def test_other_text_holds_no_layers_and_does_no_harm(text):
    assert all(isinstance(layer, EngineLayer) for layer in parse_layers(text))


@pytest.fixture
def types(compiled, tmp_path):
    """Types of nodes by the layers alone, and by the layers and the model; both must be there."""

    def of(network, capability="8.6"):
        result = compiled(network, capability)
        assert result.built, result.messages
        blind = types_of_nodes(result.layers)
        return blind, types_of_nodes(result.layers, quantization_roles(load(tmp_path / "net.onnx")))

    return of


def agree(found, **expected):
    for table in found:
        assert {name: table.get(name) for name in expected} == expected


@pytest.mark.parametrize("dtype", [HALF, FLOAT, BF16], ids=WORDS.get)
def test_quantized_convolutions_of_every_shape(graph, types, dtype):
    net = graph((1, 32, 16, 16), dtype=dtype)
    same = {"pads": [1, 1, 1, 1]}
    x = net.grid("x")
    plain = net.grid(net.node("Relu", net.conv(x, 32, 32, 3, 3, name="plain", **same), name="relu"))
    depthwise = net.grid(net.conv(plain, 32, 1, 3, 3, name="depthwise", group=32, **same))
    pointwise = net.conv(depthwise, 32, 32, 1, 1, name="pointwise")
    added = net.grid(net.node("Relu", net.node("Add", pointwise, plain, name="residual"), name="relu_behind"))
    grouped = net.grid(net.conv(added, 64, 8, 3, 3, name="grouped", group=4, **same))
    strided = net.grid(net.conv(grouped, 24, 64, 3, 3, name="strided", strides=[2, 2], bias=False))
    dilated = net.grid(net.conv(strided, 17, 24, 3, 3, name="dilated", dilations=[2, 2]))
    pooled = net.grid(net.node("MaxPool", dilated, name="pool", kernel_shape=[2, 2]))
    flat = net.grid(net.node("Flatten", net.node("GlobalAveragePool", pooled, name="average"), name="flat"))
    dense = net.node("Gemm", flat, net.weight(10, 17), net.noise(10), name="dense", transB=1)
    found = types(net.output(dense))
    names = ("plain", "depthwise", "pointwise", "grouped", "strided", "dilated", "dense")
    agree(found, **dict.fromkeys(names, "int8"))
    agree(found[1:], residual="int8", relu_behind=WORDS[dtype], pool=WORDS[dtype] if dtype == BF16 else "int8")


@pytest.mark.parametrize("dtype", [HALF, FLOAT, BF16], ids=WORDS.get)
def test_a_float_network_stays_float(graph, types, dtype):
    net = graph((1, 16, 16, 16), dtype=dtype)
    conv = net.node("Conv", "x", net.noise(16, 16, 3, 3), net.noise(16), name="conv")
    depthwise = net.node("Conv", net.node("Relu", conv), net.noise(16, 1, 3, 3), name="depthwise", group=16)
    flat = net.node("Flatten", depthwise, name="flat")
    dense = net.node("Gemm", flat, net.noise(2304, 10), name="dense")
    agree(
        types(net.output(net.node("Softmax", dense, name="softmax"))),
        **dict.fromkeys(("conv", "depthwise", "dense", "softmax"), WORDS[dtype]),
    )


def test_quantized_products(graph, types):
    net = graph((4, 64, 128))
    channels = net.node("MatMul", net.grid("x"), net.weight(128, 256, axis=1), name="channels")
    normed = net.node("Gelu", net.node("Add", channels, net.noise(256)), name="gelu")
    tensor = net.node("MatMul", net.grid(normed), net.weight(256, 128, axis=None), name="tensor")
    summed = net.node("MatMul", net.grid(tensor), net.weight(128, 64, axis=0), name="summed_axis")
    plain = net.node("MatMul", summed, net.noise(64, 32), name="plain")
    found = types(net.output(net.node("Softmax", plain, name="softmax")))
    agree(found, channels="int8", tensor="int8", summed_axis="float16", plain="float16", gelu="float16")


def attention(net, quantized):
    grid = net.grid if quantized else lambda value: value

    def head(name, *perm):
        value = net.node("MatMul", net.grid("x"), net.weight(128, 128, axis=1), name=name)
        parted = net.node("Reshape", value, net.constant([1, 64, 4, 32], TensorProto.INT64))
        return grid(net.node("Transpose", parted, perm=perm))

    query, key, value = head("query", 0, 2, 1, 3), head("key", 0, 2, 3, 1), head("value", 0, 2, 1, 3)
    scores = net.node("Softmax", net.node("MatMul", query, key, name="scores"), name="softmax")
    mixed = net.node("MatMul", grid(scores), value, name="mixed")
    joined = net.node("Reshape", net.node("Transpose", mixed, perm=[0, 2, 1, 3]), net.constant([1, 64, 128], 7))
    return net.output(net.node("MatMul", net.grid(joined), net.weight(128, 128, axis=1), name="projection"))


@pytest.mark.parametrize("quantized", [True, False])
def test_attention(graph, types, quantized):
    found = types(attention(graph((1, 64, 128)), quantized))
    agree(found, **dict.fromkeys(("query", "key", "value", "projection"), "int8"))
    agree(found[1:], **dict.fromkeys(("scores", "mixed"), "int8" if quantized else "float16"), softmax="float16")


def test_a_product_whose_result_is_taken_apart_into_heads_loses_its_integers(graph, types):
    """Seen in projections of query, key and value in one: the weights are cut instead, dequantized."""
    net = graph((1, 64, 128))
    sizes, heads = (net.constant(numbers, TensorProto.INT64) for numbers in ([128] * 3, [1, 64, 4, 32]))
    for name, axis in (("by_channel", 1), ("by_tensor", None)):
        whole = net.node("MatMul", net.grid("x"), net.weight(128, 384, axis=axis), name=name)
        parts = net.node("Split", whole, sizes, name=f"{name}_split", outputs=3, axis=2)
        for op, part in zip(("Relu", "Tanh", "Sigmoid"), parts, strict=True):
            net.output(net.node(op, net.node("Transpose", net.node("Reshape", part, heads), perm=[0, 2, 1, 3])))
    agree(types(net), by_channel="float16", by_tensor="int8")


@pytest.mark.parametrize("block", [32, 64, 128])
def test_four_bit_weights(graph, types, block):
    net = graph((4, 256))
    matmul = net.node("MatMul", "x", net.weight(256, 256, axis=0, dtype=INT4, block=block), name="matmul")
    gemm = net.node("Gemm", matmul, net.weight(64, 256, axis=1, dtype=INT4, block=block), name="gemm", transB=1)
    whole = net.node("MatMul", gemm, net.weight(64, 64, axis=1, dtype=INT4), name="by_channel")
    agree(types(net.output(whole)), matmul="int4", gemm="int4", by_channel="float16")


def test_eight_bit_weights_alone_are_no_integer_arithmetic(graph, types):
    net = graph((1, 32, 16, 16))
    conv = net.node("Conv", "x", net.weight(32, 32, 3, 3), name="conv")
    rows = net.node("Reshape", conv, net.constant([32, 196], TensorProto.INT64))
    agree(
        types(net.output(net.node("MatMul", rows, net.weight(196, 64, axis=1), name="matmul"))),
        conv="float16",
        matmul="int8-weights",
    )


@pytest.mark.parametrize("capability", ["8.9", "12.0"])
def test_float8(graph, types, capability):
    net = graph((1, 32, 16, 16))
    conv = net.node("Conv", net.grid("x", dtype=FP8), net.weight(32, 32, 3, 3, dtype=FP8), name="conv")
    rows = net.node("Reshape", net.node("Relu", conv), net.constant([32, 196], TensorProto.INT64))
    matmul = net.node("MatMul", net.grid(rows, dtype=FP8), net.weight(196, 64, axis=1, dtype=FP8), name="matmul")
    agree(types(net.output(matmul), capability), conv="float8e4m3fn", matmul="float8e4m3fn")


def test_what_has_no_integer_kernel_is_float(graph, types):
    net = graph((1, 32, 16, 16))
    up = net.conv(net.grid("x"), 32, 16, 4, 4, name="transposed", op="ConvTranspose", axis=1, strides=[2, 2])
    half = net.node("Conv", net.grid(up), net.noise(8, 16, 3, 3), name="float_weights")
    summed = net.conv(net.grid(half), 8, 8, 3, 3, name="summed_axis", axis=1)
    channels = net.grid(summed, scale=[0.05] * 8, axis=1)
    agree(
        types(net.output(net.conv(channels, 8, 8, 1, 1, name="scaled_by_channel"))),
        **dict.fromkeys(("transposed", "float_weights", "summed_axis", "scaled_by_channel"), "float16"),
    )


# -- the rules by themselves ----------------------------------------------------------------------------------


def layer(kind, inputs, constants=(), outputs=("Half",), nodes=("node",)):
    return EngineLayer(kind, kind, inputs, constants, outputs, nodes)


def test_the_layer_that_does_the_arithmetic_decides():
    product = layer("gemm", ("Int8",), ("Int8", "Float"))
    before, behind = layer("kgen", ("Half",), outputs=("Int8",)), layer("kgen", ("Float",), ("Half",))
    assert types_of_nodes([before, product, behind]) == {"node": "int8"}
    assert types_of_nodes([layer("cast", ("Half",)), behind, product]) == {"node": "int8"}


def test_a_generated_kernel_ends_accumulators_in_the_type_of_the_network():
    assert types_of_nodes([layer("kgen", ("Float",), ("Half", "Float"), ("Int8",))]) == {"node": "float16"}


def test_only_what_reads_integers_shares_in_those_of_a_generated_kernel():
    shared = layer("kgen", ("Float", "Int8"), nodes=("add", "relu"))
    roles = {
        "add": QuantizationRole("other", ("", "int8"), "float16"),
        "relu": QuantizationRole("other", ("",), "float16"),
    }
    assert types_of_nodes([shared], roles) == {"add": "int8", "relu": "float16"}


def test_reads_what_an_inspector_says_on_the_device():
    table = [
        {
            "Name": "conv1 + relu1",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
            "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}],
            "Weights": {"Type": "Int8", "Count": 9},
            "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]",
        },
        {"Name": "Reformatting CopyNode", "LayerType": "Reformat", "Inputs": [], "Outputs": [], "Metadata": ""},
        {"Name": "{ForeignNode[a...b]}", "LayerType": "Myelin", "Metadata": "[ONNX Layer: a]"},
        {
            "Name": "conv2",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x", "Format/Datatype": "N/A due to dynamic shapes"}],
            "Outputs": [{"Name": "y", "Format/Datatype": "N/A due to dynamic shapes"}],
            "Metadata": "[ONNX Layer: conv2]",
        },
    ]
    (conv,) = layers_of_engine(table)
    assert conv == EngineLayer("conv1 + relu1", "CaskConvolution", ("Int8",), ("Int8",), ("Half",), ("conv1", "relu1"))
    assert types_of_nodes([conv])["conv1"] == "int8"
