"""Clean-up and fusion of models that came quantized: what rounds goes on rounding, in the same place."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx.shape_inference
import pytest
from onnx import numpy_helper

from graphpress.ir import Model, clone, from_proto, verify
from graphpress.ir.encoding import FLOAT, AffineEncoding, override_use, set_encoding
from graphpress.ir.qdq import materialize_qdq
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.manager.recipe import from_text
from graphpress.runtime import Session
from graphpress.targets import Target

TARGET = Target("test", "reads everything", opset_max=24)
ROUNDS = 10
WEIGHTS = {
    "s": np.array(0.1, np.float32), "t": np.array(0.07, np.float32), "z": np.array(3, np.uint8),
    "zero": np.array(0, np.float32), "one": np.array(1, np.float32), "half": np.array(0.5, np.float32),
    "root2": np.array(2**0.5, np.float32), "six": np.array(6, np.float32), "square": np.array([4, 4]),
    "first": np.array([0]), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "w": (np.arange(16, dtype=np.float32).reshape(4, 4) - 8) / 5, "bias": np.array([0.5, -0.25, 0.125, 1], np.float32),
    "k": np.arange(16, dtype=np.float32).reshape(4, 1, 2, 2) / 7, "variance": np.array([0.5, 1, 2, 3], np.float32),
    "wi": np.arange(-8, 8, dtype=np.int8).reshape(4, 1, 2, 2), "ws": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
    "wz": np.zeros(4, np.int8),
}  # fmt: skip


def pair(source: str, result: str, scale: str = "s") -> str:
    return f"{result}q = QuantizeLinear({source}, {scale}, z) {result} = DequantizeLinear({result}q, {scale}, z) "


CHAINS = {
    "identity between grids": pair("x", "a") + "b = Identity(a)" + pair("b", "c", "t") + "y = Neg(c)",
    "reshape between grids": pair("x", "a") + "b = Reshape(a, square)" + pair("b", "c", "t") + "y = Neg(c)",
    "inverse around a pair": "a = Neg(x)" + pair("a", "b") + "y = Neg(b)",
    "limits around a pair": "a = Clip(x, zero, six)" + pair("a", "b") + "y = Clip(b, zero, one)",
    "transposes around a pair": "a = Transpose(x)" + pair("a", "b") + "c = Mul(b, half) y = Transpose(c)",
    "one operand of two in a grid": pair("x", "a") + "b = Concat<axis=0>(a, x) y = Concat<axis=0>(b, a)",
    "swish around a pair": "a = Sigmoid(x)" + pair("a", "b") + "y = Mul(x, b)",
    "gelu on both readings": pair("x", "a")
    + "d = Div(a, root2) e = Erf(d) f = Add(e, one) g = Mul(x, f) y = Mul(g, half)",
    "bias behind a pair": "a = MatMul(x, w)" + pair("a", "c") + "y = Add(c, bias)",
    "product of a rounded transpose": "a = Transpose(x)" + pair("a", "c") + "y = MatMul(c, w)",
    "factor behind a pair": "a = MatMul(x, w)" + pair("a", "c") + "y = Mul(c, half)",
    "two grids, one of them the output": pair("x", "a") + "c = Neg(a)" + pair("x", "y", "t"),
}  # fmt: skip
IMAGES = {
    "normalization behind a pair": "a = Conv<group=4>(x, k)"
    + pair("a", "c")
    + "y = BatchNormalization(c, bias, bias, bias, variance)",
    "normalization of a quantized weight": "d = DequantizeLinear<axis=0>(wi, ws, wz) a = Conv<group=4>(x, d) "
    "y = BatchNormalization(a, bias, bias, bias, variance)",
    "padding ahead of a pair": "a = Pad(x, pads)" + pair("a", "c") + "y = Conv<group=4>(c, k)",
}


def build(nodes: str, shape: str) -> Model:
    unknown = ",".join("?" * len(shape.split(",")))
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 23]> g (float[{shape}] x) => (float[{unknown}] y) {{ {nodes} }}'
    )
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in WEIGHTS.items())
    return from_proto(onnx.shape_inference.infer_shapes(proto))


def settle(model: Model) -> None:
    """Clean up and fuse until nothing changes."""
    passes, context = from_text("cleanup,fuse").passes, Context(TARGET, clone(model))
    for _ in range(ROUNDS):
        changes = sum(one.run(model, context).changes for one in passes if one.refuse(model, context) is None)
        verify(model)
        if not changes:
            return
    raise AssertionError(f"not settled after {ROUNDS} rounds")


def run(model: Model, shape: str) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=[int(size) for size in shape.split(",")]).astype(np.float32) * 2
    return Session(model, optimization="none").run({"x": x})["y"]


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [*((nodes, "4,4") for nodes in CHAINS.values()), *((nodes, "2,4,5,5") for nodes in IMAGES.values())],
    ids=[*CHAINS, *IMAGES],
)
def test_what_rounds_goes_on_rounding(nodes, shape):
    before = build(nodes, shape)
    after = clone(before)
    prepare(after, {})
    settle(after)
    materialize_qdq(after)
    verify(after)
    np.testing.assert_allclose(run(after, shape), run(before, shape), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Identity(x) y = Neg(a)",
        "a = Transpose(x) y = Transpose(a)",
        "a = Clip(x, zero, six) y = Clip(a, zero, one)",
        "a = Concat<axis=0>(x, x) y = Concat<axis=0>(a, x)",
        "a = Sigmoid(x) y = Mul(x, a)",
        "a = MatMul(x, w) y = Add(a, bias)",
        "a = Transpose(x) y = MatMul(a, w)",
        "a = Mul(x, half) y = MatMul(a, w)",
    ],
)
def test_a_reading_of_its_own_is_not_lost(nodes):
    """The first node reads its input as float, whatever the other readers of it do."""
    model = build(nodes, "4,4")
    set_encoding(model.graph.inputs[0], AffineEncoding("uint8", scale=(0.1,), zero_point=(0,)))
    override_use(model.graph[0], 0, FLOAT)
    expected = clone(model)
    settle(model)
    materialize_qdq(model)
    materialize_qdq(expected)
    np.testing.assert_array_equal(run(model, "4,4"), run(expected, "4,4"))


def test_a_pair_in_one_grid_goes_through_movement_of_nothing():
    model = build(pair("x", "a") + "b = Identity(a)" + pair("b", "c") + "y = Neg(c)", "4,4")
    prepare(model, {})
    settle(model)
    assert [node.op_type for node in model.graph] == ["Neg"]
