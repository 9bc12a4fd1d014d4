"""Types that a release or a processor has not, and operands that differ."""

import numpy as np
import pytest
from onnx import TensorProto as T

from graphpress.backends.tensorrt.lint import lint, unsupported
from graphpress.targets import load_target


def relu(net, dtype, opset=19):
    made = net((1, 32, 16, 16), dtype=dtype, opset=opset)
    weight = made.constant(np.ones((32, 32, 3, 3)))
    return made.output(made.node("Relu", made.node("Conv", "x", weight, name="conv"), name="relu"))


def cast(net, dtype):
    made = net((4, 64), dtype=dtype)
    return made.output(made.node("Cast", "x", name="cast", to=T.FLOAT16), T.FLOAT16)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("jetson{jetpack=5.1}", "TensorRT 8.5 has no tensors of bfloat16"),
        ("jetson{jetpack=6.0}", "TensorRT 8.6 has no tensors of bfloat16"),
        ("jetson", None),
        ("rtx", None),
    ],
)
def test_bfloat16(net, target, why, fatal):
    refusals = fatal(relu(net, T.BFLOAT16, 17).model, load_target(target))
    assert {item.where for item in refusals} == (set() if why is None else {"x", "conv", "relu"})
    assert all(item.why == why and item.fix == "use float16" for item in refusals)


def test_bfloat16_on_turing_gives_no_engine(net, verdict):
    assert not verdict(relu(net, T.BFLOAT16), "7.5").built


@pytest.mark.parametrize("dtype", [T.INT16, T.UINT16, T.UINT32, T.UINT64])
def test_integers_that_no_release_has(net, dtype):
    refusals = unsupported(cast(net, dtype).model, load_target("jetson"))
    assert [item.where for item in refusals] == ["x"]
    assert "has no tensors of" in refusals[0].why


def test_tensorrt_agrees_on_int16(net, verdict):
    assert not verdict(cast(net, T.INT16)).built


def test_text_has_no_place(net):
    made = net((4,), dtype=T.STRING)
    made.output(made.node("Identity", "x"))
    assert "has no tensors of string" in unsupported(made.model, load_target("jetson"))[0].why


def test_images_of_bytes_may_enter_and_be_cast(net, verdict):
    made = cast(net, T.UINT8)
    assert lint(made.model, load_target("jetson")) == []
    assert verdict(made).built


def test_bytes_are_not_computed_with(net, verdict, fatal):
    made = net((4, 64), dtype=T.UINT8)
    made.output(made.node("Add", "x", "x", name="add"))
    assert [item.where for item in fatal(made.model, load_target("jetson"))] == ["add"]
    assert not verdict(made).built


def test_float64_is_computed_in_float32(net, verdict, fatal):
    made = relu(net, T.DOUBLE)
    target = load_target("jetson")
    assert fatal(made.model, target) == []
    refusals = lint(made.model, target)
    assert [item.where for item in refusals] == ["x", "conv", "relu"]
    assert "computes in float32" in refusals[0].why
    assert verdict(made).built


@pytest.mark.parametrize("target", ["jetson", "rtx"])
def test_float64_at_the_edges_of_a_network(net, target):
    made = net((4, 64), dtype=T.DOUBLE)
    inner = made.node("Relu", made.node("Cast", "x", name="in", to=T.FLOAT), name="relu")
    made.output(made.node("Cast", inner, name="out", to=T.DOUBLE))
    refusals = lint(made.model, load_target(target))
    assert [item.where for item in refusals] == ["x", "out"]
    assert all(item.fix == "export the model in float32" for item in refusals)


@pytest.mark.parametrize("op_type", ["Add", "MatMul", "Concat", "Where", "LayerNormalization"])
def test_operands_of_two_types(net, verdict, op_type, fatal):
    made = net((64, 64))
    other = made.node("Cast", "x", to=T.FLOAT)
    operands, attributes = ["x", other], {}
    if op_type == "Concat":
        attributes = {"axis": 0}
    if op_type == "Where":
        operands = [made.input("condition", (64, 64), T.BOOL), *operands]
    if op_type == "LayerNormalization":
        operands = ["x", made.constant(np.ones(64), T.FLOAT)]
    made.output(made.node(op_type, *operands, name="n", **attributes))
    (refusal,) = fatal(made.model, load_target("rtx"))
    assert refusal.where == "n"
    assert "its operands are float16 and float32" in refusal.why
    assert not verdict(made).built


def test_scales_of_another_type_than_their_tensor(net, fatal):
    made = net((4, 64))
    scale, zero = made.constant(0.02, T.FLOAT), made.constant(0, T.INT8)
    made.output(made.node("QuantizeLinear", "x", scale, zero, name="q"), T.INT8)
    assert [item.where for item in fatal(made.model, load_target("jetson"))] == ["q"]


def test_statistics_may_have_another_type(net, verdict):
    made = net((1, 32, 16, 16))
    statistics = [made.constant(np.ones(32), T.FLOAT) for _ in range(4)]
    made.output(made.node("BatchNormalization", "x", *statistics, name="n"))
    assert lint(made.model, load_target("rtx")) == []
    assert verdict(made).built
