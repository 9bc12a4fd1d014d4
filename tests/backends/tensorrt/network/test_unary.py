"""Functions of one operand: every one in each float type, casts, and engines of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from graphpress.backends.tensorrt.network.unary import entries
from graphpress.errors import ModelError
from graphpress.ir import to_proto

node = helper.make_node
OTHERS = {"BitwiseNot", "Cast", "CastLike", "Dropout", "Identity", "Not"}
FUNCTIONS = sorted(set(entries()) - OTHERS)
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Celu": {"alpha": 0.5},
    "Elu": {"alpha": 0.5},
    "Gelu": {"approximate": "tanh"},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "IsInf": {"detect_negative": 0},
    "LeakyRelu": {"alpha": 0.2},
    "Selu": {"alpha": 1.5, "gamma": 1.2},
    "Shrink": {"bias": 0.25, "lambd": 0.4},
    "Swish": {"alpha": 0.5},
    "ThresholdedRelu": {"alpha": 0.3},
}
ABOVE_ONE = ("Acosh",)


def operand(op_type: str) -> np.ndarray:
    x = np.linspace(-0.9, 0.9, 12, dtype=np.float32).reshape(3, 4)
    return np.abs(x) + (1 if op_type in ABOVE_ONE else 0.1) if op_type in (*ABOVE_ONE, "Log", "Sqrt") else x


@pytest.mark.parametrize("with_attributes", [False, True])
@pytest.mark.parametrize("op_type", FUNCTIONS)
def test_functions(op_type: str, with_attributes: bool, make: Any, bench: Any) -> None:
    attributes = ATTRIBUTES.get(op_type, {}) if with_attributes else {}
    model = make([node(op_type, ["x"], ["y"], **attributes)], {"x": ("FLOAT", ["n", 4])}, ["y"], opset=24)
    x = operand(op_type)
    x = np.where(x > 0.8, np.inf, np.where(x < -0.8, -np.inf, x)).astype(np.float32) if op_type == "IsInf" else x
    (wanted,) = ReferenceEvaluator(to_proto(model)).run(None, {"x": x})
    (got,) = bench.run(bench.lower(model), {"x": x})
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "BFLOAT16"])
def test_they_build_and_keep_their_type(kind: str, make: Any, bench: Any) -> None:
    checks = ("IsInf", "IsNaN")
    nodes = [node(op_type, ["x"], [op_type], **ATTRIBUTES.get(op_type, {})) for op_type in FUNCTIONS]
    network = bench.lower(make(nodes, {"x": (kind, ["n", 4])}, FUNCTIONS, opset=24))
    wanted = {"FLOAT": "FLOAT", "FLOAT16": "HALF", "BFLOAT16": "BF16"}[kind]
    found = {network.get_output(index).name: network.get_output(index).dtype.name for index in range(len(FUNCTIONS))}
    assert found == {op_type: "BOOL" if op_type in checks else wanted for op_type in FUNCTIONS}
    assert bench.build(network) > 0


CASTS = ("FLOAT", "FLOAT16", "BFLOAT16", "INT32", "INT64", "BOOL")


def test_casts_build(make: Any, bench: Any) -> None:
    nodes = [
        node("Cast", [source], [f"{source}_{target}"], to=onnx.TensorProto.DataType.Value(target))
        for source in CASTS
        for target in CASTS
    ]
    outputs = [one.output[0] for one in nodes]
    network = bench.lower(make(nodes, {source: (source, [3]) for source in CASTS}, outputs))
    assert bench.build(network) > 0


@pytest.mark.parametrize("target", ["DOUBLE", "FLOAT8E4M3FN", "INT4", "INT8", "UINT16"])
def test_casts_that_are_refused(target: str, make: Any, bench: Any) -> None:
    operation = node("Cast", ["x"], ["y"], to=onnx.TensorProto.DataType.Value(target))
    with pytest.raises(ModelError, match=f"does not cast float to {target.lower()}"):
        bench.lower(make([operation], {"x": ("FLOAT", [3])}, ["y"]))


def test_the_mask_of_a_dropout_is_true(make: Any, bench: Any) -> None:
    network = bench.lower(make([node("Dropout", ["x"], ["y", "m"])], {"x": ("FLOAT", ["n", 2])}, ["y", "m"]))
    x = np.ones((3, 2), np.float32)
    y, mask = bench.run(network, {"x": x})
    np.testing.assert_array_equal(y, x)
    assert mask.shape == (3, 2)
    assert mask.all()


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
def test_short_integers_are_refused(kind: str, make: Any, bench: Any) -> None:
    with pytest.raises(ModelError, match=f"does not compute in {kind.lower()}"):
        bench.lower(make([node("Abs", ["x"], ["y"])], {"x": (kind, [3])}, ["y"]))
