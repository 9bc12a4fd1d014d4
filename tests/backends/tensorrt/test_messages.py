"""NVIDIA's messages, each provoked for real, in our words."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from onnx import TensorProto, parser

from graphpress.backend import ShapeRange
from graphpress.backends.tensorrt.build import Message
from graphpress.backends.tensorrt.messages import GENERIC_FIX, NOWHERE, explain, remarks, warnings_of
from graphpress.errors import ModelError
from graphpress.ir import Refusal, from_proto, load

FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


@dataclass(frozen=True)
class Case:
    """A network that TensorRT refuses.

    Args:
        make: from the class of networks, the network.
        where: the place that the explanation names.
        why, fix: words in its reason and its remedy.
    """

    make: object
    where: str
    why: str
    fix: str
    capability: str = "8.6"
    options: dict = field(default_factory=dict)


def through(op, *, shape=(4, 8), dtype=FLOAT, outputs=1, wanted=None, constants=(), **attributes):
    """A network of one node."""

    def make(graph):
        net = graph(shape, dtype=dtype)
        names = [value if isinstance(value, str) else net.constant(*value) for value in constants]
        results = net.node(op, "x", *names, name="node", outputs=outputs, **attributes)
        return net.output(results if outputs == 1 else results[0], dtype=wanted)

    return make


def asymmetric(graph):
    net = graph()
    return net.output(net.conv(net.grid("x", zero=3, name="grid"), 8, 32, 3, 3, name="conv"))


def integer_bias(graph):
    net = graph()
    integers = net.constant(np.arange(8), TensorProto.INT32)
    bias = net.node("DequantizeLinear", integers, net.constant(np.full(8, 0.001)), name="bias", axis=0)
    return net.output(net.node("Conv", net.grid("x"), net.weight(8, 32, 3, 3), bias))


def quantized_to(dtype):
    def make(graph):
        net = graph()
        return net.output(net.grid("x", dtype=dtype, name="grid"))

    return make


def weights_of(dtype, **options):
    def make(graph):
        net = graph((4, 64))
        return net.output(net.node("MatMul", "x", net.weight(64, 64, dtype=dtype, **options), name="matmul"))

    return make


def mixed(op, *shapes, first=HALF, second=FLOAT):
    def make(graph):
        net = graph(shapes[0], dtype=first)
        return net.output(net.node(op, "x", net.constant(np.ones(shapes[1]), second), name="node"))

    return make


def blocks_along(axis):
    def make(graph):
        net = graph()
        weight = net.weight(32, 32, 3, 3, axis=axis, dtype=TensorProto.INT4, block=16)
        return net.output(net.node("Conv", "x", weight))

    return make


def profile(low, middle, high, name="x"):
    return {"profile": {name: ShapeRange(low, middle, high)}}


INT32 = TensorProto.INT32
OPEN = through("Relu", shape=("N", 8))
SCALE, ZERO = ((0.1,), FLOAT), ((0,), TensorProto.INT8)
CASES = {
    "asymmetric": Case(asymmetric, "grid.q", "zero-point is not 0", "quantize the float original"),
    "int32 bias": Case(integer_bias, "bias", "Int32, and DequantizeLinear takes", "keep the value float"),
    "fp8 before SM89": Case(
        quantized_to(TensorProto.FLOAT8E4M3FN), NOWHERE, "sm86) has no arithmetic in fp8", "recipe"
    ),
    "int4 before SM80": Case(weights_of(TensorProto.INT4, block=32), NOWHERE, "sm75) has no", "int8", "7.5"),
    "missing profile": Case(OPEN, NOWHERE, "open dimensions", "--input-range"),
    "profile of another input": Case(
        OPEN, "x", "no shapes are given", "--input-range", options=profile((1, 8), (2, 8), (4, 8), "y")
    ),
    "profile not in order": Case(
        OPEN, "x", "min ≤ opt ≤ max", "--input-range", options=profile((4, 8), (2, 8), (1, 8))
    ),
    "profile of another size": Case(OPEN, "x", "axis 1 is 8", "--input-range", options=profile((1, 9), (2, 9), (4, 9))),
    "profile of another rank": Case(OPEN, "x", "has 2 dimensions", "--input-range", options=profile((1,), (2,), (4,))),
    "unsupported operator": Case(through("Det", shape=(2, 8, 8)), "node", "parser has no Det", "surgery"),
    "dynamic quantization": Case(
        through("DynamicQuantizeLinear", outputs=3, wanted=TensorProto.UINT8),
        "node",
        "no DynamicQuantizeLinear",
        "surgery",
    ),
    "unknown domain": Case(through("Frob", domain="acme"), "node", "Frob is no operator", "plugin"),
    "added types": Case(mixed("Add", (1, 8), (1, 8)), "node", "combines Half with Float", "Cast"),
    "multiplied types": Case(mixed("MatMul", (4, 8), (8, 8)), "node", "combines Half with Float", "Cast"),
    "convolved types": Case(mixed("Conv", (1, 8, 9, 9), (8, 8, 3, 3)), "node", "combines Half with Float", "Cast"),
    "int16": Case(quantized_to(TensorProto.INT16), "grid.q (c1)", "is int16", "int8"),
    "uint4": Case(weights_of(TensorProto.UINT4, block=32), "DequantizeLinear_0 (c0)", "is uint4", "int4"),
    "float8e5m2": Case(quantized_to(TensorProto.FLOAT8E5M2), "grid.q (c1)", "is float8e5m2", "int8"),
    "uint8 weights": Case(weights_of(TensorProto.UINT8, axis=1), "DequantizeLinear_0", "reads UINT8", "int8"),
    "integer product": Case(mixed("MatMul", (8, 8), (8, 8), first=INT32, second=INT32), "node", "reads INT32", "cast"),
    "negative scale": Case(
        through("QuantizeLinear", constants=[((-0.1), FLOAT), (0, TensorProto.INT8)], wanted=TensorProto.INT8),
        "node",
        "zero or negative",
        "positive scale",
    ),
    "blocks of a convolution": Case(blocks_along(1), "DequantizeLinear_0", "neither the last nor", "MatMul and Gemm"),
    "too many selected": Case(
        through("TopK", shape=(1, 9000), outputs=2, constants=[([5000], INT64)]),
        "node",
        "more than 3840",
        "at most 3840",
    ),
    "cropped resize": Case(
        through(
            "Resize",
            shape=(1, 3, 8, 8),
            constants=["", ([1, 1, 2, 2], FLOAT)],
            mode="linear",
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
        "node",
        "only supports half_pixel, pytorch",
        "exported",
    ),
    "strings": Case(through("Identity", dtype=TensorProto.STRING), NOWHERE, "no tensors of", "feed numbers"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_refusal_says_where_why_and_how_to_fix_it(graph, compiled, tmp_path, case):
    result = compiled(case.make(graph), case.capability, **case.options)
    assert not result.built
    refusals = explain(result.messages, load(tmp_path / "net.onnx"))
    assert (refusals[0].where, case.why in refusals[0].why, case.fix in refusals[0].fix) == (case.where, True, True), (
        refusals
    )
    assert not any("TensorRT says" in refusal.why or "usable GPU" in refusal.why for refusal in refusals)


@pytest.mark.parametrize("content", [b"garbage", b""])
def test_what_is_no_model_is_named_so(compiled, tmp_path, content):
    file = tmp_path / "bad.onnx"
    file.write_bytes(content)
    assert "no ONNX model" in explain(compiled(file).messages)[0].why


def test_a_value_from_nowhere_is_named_though_the_model_cannot_be_read(graph, compiled):
    (refusal,) = explain(compiled(through("Add", constants=["nowhere"])(graph)).messages)
    assert (refusal.where, refusal.why) == ("node", "it reads a value that nothing before it computes")


def test_a_missing_file_is_named(compiled, tmp_path):
    (refusal,) = explain(compiled(tmp_path / "none.onnx").messages)
    assert (refusal.where, refusal.why) == (str(tmp_path / "none.onnx"), "there is no such file")


def test_each_faulty_node_is_explained_once(graph, compiled, tmp_path):
    net = graph((2, 8, 8), dtype=FLOAT)
    sequence = net.node("SequenceConstruct", "x", "x", name="pack")
    net.output(net.node("ConcatFromSequence", sequence, name="unpack", axis=0))
    messages = compiled(net).messages
    assert [refusal.where for refusal in explain(messages, load(tmp_path / "net.onnx"))] == ["pack", "unpack"]


def test_uint8_is_silently_read_as_int8_and_that_is_said(graph, compiled, tmp_path):
    net = graph()
    result = compiled(net.output(net.conv(net.grid("x", dtype=TensorProto.UINT8, name="grid"), 8, 32, 3, 3, name="c")))
    warnings = warnings_of(result.messages, load(tmp_path / "net.onnx"))
    assert result.built
    assert [warning.where for warning in warnings] == ["grid.q", "grid.dq"]
    assert remarks(result.messages) == []


def test_what_is_unknown_is_passed_on_word_for_word():
    text = "IBuilder::frobnicate: Error Code 99: Something New (conv7: it does not like this. In f at x.cpp:1)"
    assert explain([Message("error", text)]) == [Refusal(NOWHERE, f"TensorRT says: {text}", GENERIC_FIX)]
    assert explain([Message("error", text, "conv7")])[0].where == "conv7"
    assert remarks([Message("warning", "mind the gap"), Message("warning", "mind the gap")]) == ["mind the gap"]


@pytest.mark.parametrize(
    "text",
    [
        "ModelImporter.cpp:1071: Make sure input token ids, 1 has Int64 binding.",
        "WeightsContext.cpp:525: Empty initializer 267 was provided with non-empty data. Overriding data to nullptr",
    ],
)
def test_what_changes_no_result_is_left_out(text):
    assert remarks([Message("warning", text)]) == []


def test_sizes_that_are_read_from_an_input_are_told_apart_from_open_ones(graph, compiled):
    net = graph((4, 6), dtype=FLOAT)
    shape = net.input("sizes", (2,), INT64)
    (refusal,) = explain(compiled(net.output(net.node("Reshape", "x", shape))).messages)
    assert "values that are sizes" in refusal.why
    assert "constants" in refusal.fix


def test_the_node_that_an_unknown_message_speaks_of_is_found_in_the_model(graph, tmp_path):
    net = graph((4, 8))
    model = load(net.output(net.node("Relu", net.node("Exp", "x", name="first"), name="second")).save(tmp_path))
    speaks = Message("error", "INetwork::f: Error Code 4: API Usage Error (second: strange. In f at x.cpp:1)")
    counts = Message("error", "In node 1 (parseNode): UNSUPPORTED_NODE: strange")
    assert [explain([message], model)[0].where for message in (speaks, counts)] == ["second", "second"]


def test_a_failure_without_a_word_is_still_a_reason():
    assert explain([Message("warning", "mind the gap")])[0].why


def test_errors_of_a_machine_without_gpu_are_heard_only_where_they_are_all_there_is(graph, compiled, tmp_path):
    noise = Message("error", "[checkMacros.cpp::catchCudaError::250] Error Code 1: (cudaError 35: CUDA driver version)")
    assert "no usable GPU" in explain([noise])[0].why
    net = graph((1, 3), dtype=FLOAT)
    net.output(net.node("MatMul", "x", net.noise(4, 5), name="matmul"))
    (refusal,) = explain([*compiled(net).messages, noise], load(tmp_path / "net.onnx"))
    assert refusal.where == "matmul"
    assert "must match" in refusal.why
    assert "cuda" not in refusal.why.lower()


def test_a_refusal_can_be_raised():
    first = explain([Message("error", "Failed to parse the ONNX model.")])[0]
    assert "no ONNX model" in str(ModelError(first.why, where=first.where, fix=first.fix))


def test_a_message_that_names_no_node_is_put_to_the_nodes_that_hold_graphs():
    """The compiler's own words about an If with subgraphs say nothing of where it is."""
    text = "Error Code 9: Internal Error (Assertion i < op->input_size() failed)"
    branches = ", ".join(
        f"{name}_branch = {name} () => (float[2] z) {{ z = Identity(x) }}" for name in ("then", "else")
    )
    graph = f"(float[2] x, bool c) => (float[2] y) {{ y = If (c) <{branches}> }}"
    model = from_proto(parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {graph}'))
    node = next(iter(model.graph))
    node.name = "decoder"
    (refusal,) = explain([Message("error", text)], model)
    assert refusal.where == "decoder"
    assert text in refusal.why
    assert "condition constant" in refusal.fix
    assert "--exclude changes nothing" in refusal.fix
