"""Cost by hand, on tiny graphs and on real models."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphpress import ir
from graphpress.analysis.cost import model_cost, roofline_seconds
from graphpress.analysis.shapes import concrete_shapes
from graphpress.ir.encoding import WEIGHT_ONLY, AffineEncoding, request_compute, set_encoding, set_float_type
from graphpress.ir.types import DataType, TensorType
from graphpress.targets import load_target

real_models = pytest.mark.skipif("GRAPHPRESS_DATA" not in os.environ, reason="GRAPHPRESS_DATA is not set")


def two_convolutions(build: Any) -> ir.Model:
    hidden = build("Relu", build.conv("x", 3, 8, 3))
    return build.model({"x": ["N", 3, 6, 6]}, [build.conv(hidden, 8, 4)])  # type: ignore[no-any-return]


def test_macs_parameters_and_bytes_by_hand(build: Any) -> None:
    cost = model_cost(two_convolutions(build))
    assert cost.macs == 36 * 8 * 27 + 36 * 4 * 8
    assert cost.parameters == 8 * 27 + 8 + 4 * 8 + 4
    assert cost.bytes == 4 * cost.parameters
    assert cost.nodes == 3
    assert [(layer.name, layer.op, layer.macs) for layer in cost.layers] == [
        ("n0", "Conv", 7776), ("n1", "Relu", 0), ("n2", "Conv", 1152),
    ]  # fmt: skip
    assert cost.unknown == ()


def test_batch_multiplies_macs_and_not_parameters(build: Any) -> None:
    model = two_convolutions(build)
    one, four = model_cost(model), model_cost(model, concrete_shapes(model, {"x": (4, 3, 6, 6)}))
    assert four.macs == 4 * one.macs
    assert four.parameters == one.parameters


def test_a_shared_weight_counts_once(build: Any) -> None:
    weight = build.weight(6, 6)
    model = build.model({"x": [2, 6]}, [build("MatMul", build("MatMul", "x", weight), weight)])
    assert model_cost(model).parameters == 36


def test_indices_and_scales_are_no_parameters_and_integer_weights_are(build: Any) -> None:
    scale, zero = build.constant(np.float32(0.1)), build.constant(np.int8(0))
    weight = build.constant(np.ones((6, 5), np.int8))
    hidden = build("MatMul", "x", build("DequantizeLinear", weight, scale, zero))
    model = build.model({"x": [2, 6]}, [build("Reshape", hidden, build.constant(np.array([5, 2])))])
    cost = model_cost(model)
    assert cost.parameters == 30
    assert cost.bytes == 30 + 4 + 1 + 16


def test_weights_in_constant_nodes_count(build: Any) -> None:
    tensor = onnx.numpy_helper.from_array(np.ones((6, 5), np.float32))
    model = build.model({"x": [2, 6]}, [build("MatMul", "x", build("Constant", value=tensor))])
    cost = model_cost(model)
    assert (cost.parameters, cost.bytes, cost.macs) == (30, 120, 60)


def test_what_is_not_known_is_listed(build: Any) -> None:
    proto = build.proto({"x": [2, 6]}, [build("Mystery", "x", domain="com.example")])
    proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    cost = model_cost(ir.from_proto(proto))
    assert cost.unknown == ("n0",)
    assert cost.peak_activation_bytes is None


def test_peak_memory_counts_what_is_alive_at_once(build: Any) -> None:
    """x and y stay; of the chain, two links are alive at a time; the view costs nothing."""
    chain = build("Relu", build("Abs", "x"))
    model = build.model(
        {"x": [1, 100]}, [build("ReduceSum", build("Reshape", chain, build.constant(np.array([100, 1]))))]
    )
    assert model_cost(model).peak_activation_bytes == 4 * 300


def test_peak_memory_of_a_shortcut_keeps_it_alive(build: Any) -> None:
    hidden = build("Abs", "x")
    long_way = build("Relu", build("Neg", hidden))
    model = build.model({"x": [1, 100]}, [build("Add", hidden, long_way)])
    assert model_cost(model).peak_activation_bytes == 4 * 400


def test_roofline_takes_the_slower_of_arithmetic_and_memory(build: Any) -> None:
    cost = model_cost(build.model({"x": [1, 1000]}, [build("MatMul", "x", build.weight(1000, 1000))]))
    target = replace(load_target("cpu"), peak_gmacs={"float32": 1.0}, bandwidth_gbs=1e6)
    assert roofline_seconds(cost, target) == pytest.approx(1e-3)
    slow = replace(target, bandwidth_gbs=1.0)
    assert roofline_seconds(cost, slow) == pytest.approx((4e6 + 8e3) / 1e9)
    assert roofline_seconds(cost, replace(target, peak_gmacs={})) is None


def test_roofline_counts_what_is_asked_for_and_the_bytes_of_encodings(build: Any) -> None:
    model = build.model({"x": [1, 1000]}, [build("MatMul", "x", build.weight(1000, 1000))])
    (node,) = model.graph
    request_compute(node, "int8")
    set_encoding(node.inputs[1], AffineEncoding("int8", (1.0,), (0,)))
    set_float_type(node, "float16")
    (layer,) = model_cost(model).layers
    assert (layer.arithmetic, layer.traffic) == ("int8", 1_000_000 + 2_000 + 2_000)
    target = replace(load_target("cpu"), peak_gmacs={"float32": 1.0, "int8": 4.0}, bandwidth_gbs=1e6)
    assert roofline_seconds(model_cost(model), target) == pytest.approx(0.25e-3)
    request_compute(node, WEIGHT_ONLY)
    assert model_cost(model).layers[0].arithmetic == "float16"


def test_a_model_in_half_precision_computes_in_it(build: Any) -> None:
    model = build.model({"x": [1, 8]}, [build("MatMul", "x", build.weight(8, 8))])
    (node,) = model.graph
    for value in (*node.inputs, *node.outputs):
        value.type = TensorType(DataType.FLOAT16)
    assert model_cost(model).layers[0].arithmetic == "float16"


@real_models
@pytest.mark.parametrize(("name", "blocks"), [("resnet20_cifar10", 3), ("resnet32_cifar10", 5)])
def test_residual_networks_by_formula(name: str, blocks: int) -> None:
    """A stem, three stages of so many blocks of two 3×3 convolutions with shortcuts that cost nothing, one Gemm."""
    widths, sizes = (16, 32, 64), (1024, 256, 64)
    kernels = [9 * 3 * 16, *(9 * width * width * (2 * blocks - (width > 16)) for width in widths)]
    macs = kernels[0] * 1024 + sum(kernel * size for kernel, size in zip(kernels[1:], sizes, strict=True)) + 640
    joining = [9 * 16 * 32, 9 * 32 * 64]
    macs += joining[0] * 256 + joining[1] * 64
    biases = 16 + sum(2 * blocks * width for width in widths)
    cost = model_cost(ir.load(Path(os.environ["GRAPHPRESS_DATA"]) / f"{name}.onnx"))
    assert cost.macs == macs
    assert cost.parameters == sum(kernels) + sum(joining) + biases + 650
    assert cost.unknown == ()


@real_models
def test_mobilenet_by_its_published_macs() -> None:
    """Howard et al. 2017, table 6: MobileNet-0.25 at 224 has 41 million multiply-adds and 0.5 million parameters."""
    cost = model_cost(ir.load(Path(os.environ["GRAPHPRESS_DATA"]) / "mobilenet_v1_0.25_224.onnx"))
    assert round(cost.macs / 1e6) == 41
    assert round(cost.parameters / 1e6, 1) == 0.5
