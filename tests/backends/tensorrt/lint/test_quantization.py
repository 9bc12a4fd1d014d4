"""Each grid and placement that TensorRT does not take is named; NVIDIA's own builder agrees."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pytest
from onnx import TensorProto as T

from graphpress.backends.tensorrt.lint import lint
from graphpress.ir import Refusal
from graphpress.targets import load_target

PER_CHANNEL = np.full(32, 0.02)


def conv(
    net,
    *,
    data=None,
    weight=None,
    bias=None,
    shape=(32, 32, 3, 3),
    opset=19,
    between=False,
    dtype=T.FLOAT16,
    **attributes,
):
    """A convolution and its activation; ``data`` and ``weight`` say how they are quantized, False for not."""
    made = net(opset=opset, dtype=dtype)
    source = "x" if data is False else made.grid("x", **(data or {}))
    kernel = made.constant(np.ones(shape)) if weight is False else made.weight(shape, **(weight or {}))
    operands = [source, kernel, *([] if bias is None else [bias(made)])]
    result = made.node("Conv", *operands, name="product", **attributes)
    result = made.grid(result) if between else result
    return made.output(made.node("Relu", result, name="relu"))


def product(net, make, *, shape=(4, 64), opset=19, dtype=T.FLOAT16):
    made = net(shape, opset=opset, dtype=dtype)
    return made.output(make(made))


def float_bias(made):
    return made.constant(np.zeros(32))


def integer_bias(made):
    zeros = made.constant(np.zeros(32), T.INT32)
    return made.dequantize(zeros, np.full(32, 2e-4), dtype=T.INT32, axis=0)


@dataclass(frozen=True)
class Case:
    """A network, the node that is named, words of the reason, and whether there is no engine at all."""

    make: object
    where: str = ""
    why: str = ""
    fatal: bool = True
    target: str = "jetson{jetpack=7.2}"
    capability: str = "8.6"


def matmul(made, weight, **options):
    return made.node("MatMul", made.grid("x", **options), weight, name="product")


def running_scale(made):
    scale = made.node("ReduceMax", "x", made.constant([0, 1], T.INT64), keepdims=0)
    zero = made.constant(0, T.INT8)
    grid = made.node("DequantizeLinear", made.node("QuantizeLinear", "x", scale, zero, name="q"), scale, zero)
    return made.node("MatMul", grid, made.weight((64, 64), axis=1), name="product")


BAD = {
    "zero-point of data": Case(lambda net: conv(net, data={"zero": 3}), "QuantizeLinear_0", "symmetric grids only"),
    "zero-point of weights": Case(
        lambda net: conv(net, weight={"zero": 3}), "DequantizeLinear_2", "symmetric grids only"
    ),
    "zero-point of 128": Case(
        lambda net: conv(net, data={"dtype": T.UINT8, "zero": 128}), "QuantizeLinear_0", "symmetric grids only"
    ),
    "int32 bias": Case(lambda net: conv(net, bias=integer_bias), "DequantizeLinear_3", "dequantizes int32"),
    "int16": Case(lambda net: conv(net, data={"dtype": T.INT16}, opset=21), "QuantizeLinear_0", "no tensors of int16"),
    "float8e5m2": Case(
        lambda net: conv(net, data={"dtype": T.FLOAT8E5M2}), "QuantizeLinear_0", "no tensors of float8e5m2"
    ),
    "uint4": Case(
        lambda net: product(
            net, lambda made: made.node("MatMul", "x", made.weight((64, 64), dtype=T.UINT4, block=32)), opset=21
        ),
        "DequantizeLinear_0",
        "no tensors of uint4",
    ),
    "float8 where there is none": Case(
        lambda net: conv(net, data={"dtype": T.FLOAT8E4M3FN}, weight={"dtype": T.FLOAT8E4M3FN}),
        "QuantizeLinear_0",
        "compute capability 8.7) has no float8e4m3fn",
    ),
    "float8 by int8": Case(
        lambda net: product(net, lambda made: matmul(made, made.weight((64, 64), axis=None), dtype=T.FLOAT8E4M3FN)),
        "product",
        "multiplies float8e4m3fn by int8",
        target="rtx-ada",
        capability="8.9",
    ),
    "blocks that do not divide": Case(
        lambda net: product(
            net,
            lambda made: made.node("MatMul", "x", made.weight((256, 64), dtype=T.INT4, block=48)),
            shape=(4, 256),
            opset=21,
        ),
        "DequantizeLinear_0",
        "blocks of 48 do not divide",
    ),
    "blocks of a convolution": Case(
        lambda net: conv(
            net, data=False, shape=(32, 32, 1, 1), weight={"dtype": T.INT4, "axis": 1, "block": 16}, opset=21
        ),
        "DequantizeLinear_0",
        "blocks run along axis 1",
    ),
    "data per channel": Case(
        lambda net: conv(net, data={"scale": PER_CHANNEL, "axis": 1}), "QuantizeLinear_0", "one scale a channel", False
    ),
    "weights per input channel": Case(
        lambda net: conv(net, weight={"axis": 1}), "product", "axis 1, not along its outputs (axis 0)", False
    ),
    "weights alone before a convolution": Case(
        lambda net: conv(net, data=False), "product", "expands them to float", False
    ),
    "data alone": Case(lambda net: conv(net, weight=False), "product", "its weights 'c", False),
    "one side of two": Case(
        lambda net: product(
            net, lambda made: made.node("MatMul", made.grid("x"), made.node("Transpose", "x"), name="product")
        ),
        "product",
        "its weights 'Transpose_2.0' are float",
        False,
    ),
    "transposed convolution": Case(
        lambda net: product(
            net,
            lambda made: made.node(
                "ConvTranspose", made.grid("x"), made.weight((32, 32, 2, 2), axis=1), name="product", strides=[2, 2]
            ),
            shape=(1, 32, 16, 16),
        ),
        "product",
        "no integer kernel",
        False,
    ),
    "matrix product along K": Case(
        lambda net: product(net, lambda made: matmul(made, made.weight((64, 64), axis=0))),
        "product",
        "axis 0, not along its outputs (axis 1)",
        False,
    ),
    "matrix product along K behind a transposition": Case(
        lambda net: product(
            net, lambda made: matmul(made, made.node("Transpose", made.weight((64, 64), axis=1), perm=[1, 0]))
        ),
        "product",
        "axis 0, not along its outputs (axis 1)",
        False,
    ),
    "gemm along K": Case(
        lambda net: product(
            net,
            lambda made: made.node("Gemm", made.grid("x"), made.weight((64, 64), axis=1), name="product", transB=1),
        ),
        "product",
        "axis 1, not along its outputs (axis 0)",
        False,
    ),
    "scale computed at run time": Case(lambda net: product(net, running_scale), "q", "computed at run time", False),
    "int4 without blocks": Case(
        lambda net: product(
            net,
            lambda made: made.node("MatMul", "x", made.weight((64, 64), axis=1, dtype=T.INT4), name="product"),
            opset=21,
        ),
        "product",
        "int4 weights without blocks are expanded",
        False,
    ),
    "int8 in blocks": Case(
        lambda net: product(
            net, lambda made: made.node("MatMul", "x", made.weight((64, 64), block=32), name="product"), opset=21
        ),
        "product",
        "int8 weights in blocks are expanded",
        False,
    ),
}

GOOD = {
    "convolution": lambda net: conv(net, bias=float_bias),
    "one scale a tensor": lambda net: conv(net, weight={"axis": None}),
    "depthwise": lambda net: conv(net, shape=(32, 1, 3, 3), group=32),
    "grouped": lambda net: conv(net, shape=(32, 8, 3, 3), group=4),
    "matrix product": lambda net: product(net, lambda made: matmul(made, made.weight((64, 64), axis=1))),
    "weights on the left": lambda net: product(
        net, lambda made: made.node("MatMul", made.weight((64, 64)), made.grid("x"), name="product"), shape=(64, 4)
    ),
    "behind a transposition": lambda net: product(
        net, lambda made: matmul(made, made.node("Transpose", made.weight((64, 64)), perm=[1, 0]))
    ),
    "gemm": lambda net: product(
        net,
        lambda made: made.node(
            "Gemm", made.grid("x"), made.weight((64, 64)), made.constant(np.zeros(64)), name="product", transB=1
        ),
    ),
    "two activations": lambda net: product(
        net, lambda made: matmul(made, made.node("Transpose", made.grid("x"), perm=[1, 0]))
    ),
    "weights behind a quantizer": lambda net: product(
        net, lambda made: matmul(made, made.grid(made.constant(np.ones((64, 64))), np.full(64, 0.01), axis=1))
    ),
    "behind casts": lambda net: product(
        net,
        lambda made: made.node(
            "MatMul",
            *(
                made.node("Cast", value, to=T.FLOAT16)
                for value in (
                    made.grid(made.node("Cast", "x", to=T.FLOAT), scales=T.FLOAT),
                    made.weight((64, 64), axis=1, scales=T.FLOAT),
                )
            ),
            name="product",
        ),
    ),
    "float32 around": lambda net: product(net, lambda made: matmul(made, made.weight((64, 64), axis=1)), dtype=T.FLOAT),
}

STORED = {
    "int4 in blocks": lambda net: product(
        net,
        lambda made: made.node("MatMul", "x", made.weight((64, 64), dtype=T.INT4, block=32), name="product"),
        opset=21,
    ),
    "int8 by channel": lambda net: product(
        net, lambda made: made.node("MatMul", "x", made.weight((64, 64), axis=1), name="product")
    ),
}
"""Weights that are small in memory and multiply in float."""


@pytest.mark.parametrize("name", BAD)
def test_names_the_node_and_the_reason(net, name, fatal):
    case = BAD[name]
    model, target = case.make(net).model, load_target(case.target)
    refusals = lint(model, target)
    assert (refusals[0].where, case.why in refusals[0].why) == (case.where, True)
    assert all(refusal.fix for refusal in refusals)
    assert bool(fatal(model, target)) is case.fatal


@pytest.mark.parametrize("name", [*GOOD, *STORED])
def test_is_silent_on_what_is_fine(net, name):
    assert lint({**GOOD, **STORED}[name](net).model, load_target("jetson{jetpack=7.2}")) == []


@pytest.mark.parametrize("name", BAD)
def test_tensorrt_agrees_on_what_is_wrong(net, verdict, name):
    case = BAD[name]
    made = verdict(case.make(net), case.capability)
    assert made.built is not case.fatal
    if made.built:
        assert made.types["product"] not in ("int8", "float8e4m3fn")


@pytest.mark.parametrize("name", GOOD)
def test_tensorrt_agrees_on_what_is_fine(net, verdict, name):
    assert verdict(GOOD[name](net)).types["product"] == "int8"


@pytest.mark.parametrize("name", STORED)
def test_tensorrt_keeps_small_weights(net, verdict, name):
    assert verdict(STORED[name](net)).built


def test_uint8_would_be_read_as_int8(net):
    refusals = lint(conv(net, data={"dtype": T.UINT8}).model, load_target("jetson"))
    assert [refusal.where for refusal in refusals] == ["QuantizeLinear_0", "DequantizeLinear_1"]
    assert "which TensorRT reads as int8" in refusals[0].why


def test_a_grid_without_a_type_is_uint8(net):
    made = net((4, 64))
    scale = made.constant(0.02)
    made.output(made.node("DequantizeLinear", made.node("QuantizeLinear", "x", scale, name="q"), scale))
    assert "uint8" in lint(made.model, load_target("jetson"))[0].why


def test_a_pair_between_a_convolution_and_its_activation(net, verdict):
    made = conv(net, between=True)
    (refusal,) = lint(made.model, load_target("jetson"))
    assert refusal.where == "QuantizeLinear_4"
    assert refusal.fix == "quantize behind Relu"
    assert verdict(made).types["product"] == "int8"


@pytest.mark.parametrize("order", permutations(range(4)))
def test_follows_the_axis_of_scales_through_a_transposition(net, order):
    for axis in range(4):
        made = net((1, 8, 16, 16))
        kernel = made.node("Transpose", made.weight((8, 8, 8, 8), axis=axis), perm=order)
        made.output(made.node("Conv", made.grid("x"), kernel, name="product"))
        refusals = lint(made.model, load_target("jetson"))
        assert (refusals == []) is (axis == order[0])


@pytest.mark.parametrize(("shape", "group", "fine"), [((32, 2, 3, 3), 16, False), ((64, 1, 3, 3), 32, True)])
def test_int8_wants_groups_of_four(net, shape, group, fine):
    refusals = lint(conv(net, shape=shape, group=group).model, load_target("jetson"))
    assert [refusal.where for refusal in refusals] == ([] if fine else ["product"])
    assert lint(conv(net, shape=shape, group=group).model, load_target("rtx")) == []


def test_the_accelerator_quantizes_by_itself(net):
    refusals = lint(conv(net, weight={"axis": 1}).model, load_target("jetson{dla=on}"))
    assert refusals == []


@pytest.mark.parametrize(
    "data", [{"dtype": T.UINT8, "zero": 128}, {"zero": 3}, {"dtype": T.UINT8}, {"scale": PER_CHANNEL, "axis": 1}]
)
def test_the_accelerator_gets_no_range_of_other_grids(net, data, fatal):
    model = conv(net, data=data, opset=21).model
    (refusal,) = lint(model, load_target("jetson{dla=on}"))
    assert refusal.where == "QuantizeLinear_0"
    assert "runs in float on the accelerator" in refusal.why
    assert fatal(model, load_target("jetson{dla=on}")) == []


def test_what_a_build_has_shown_is_not_foretold(net):
    model, target = conv(net, weight=False).model, load_target("jetson")
    (refusal,) = lint(model, target)
    assert lint(model, target, [Refusal("another", "", "")]) == [refusal]
    assert lint(model, target, [Refusal(refusal.where, "asked for int8, becomes float16", "")]) == []


def test_what_gives_no_engine_is_said_whatever_a_stand_in_built(net, fatal):
    made = conv(net, data={"dtype": T.FLOAT8E4M3FN}).model
    refusals = fatal(made, load_target("rtx-ada"))
    assert refusals
    assert set(refusals) <= set(lint(made, load_target("rtx-ada"), refusals))


def test_float8_where_there_is_float8(net, verdict):
    made = conv(net, data={"dtype": T.FLOAT8E4M3FN}, weight={"dtype": T.FLOAT8E4M3FN})
    assert lint(made.model, load_target("rtx-ada")) == []
    assert lint(made.model, load_target("jetson-thor")) == []
    assert verdict(made, "8.9").types["product"] == "float8e4m3fn"
