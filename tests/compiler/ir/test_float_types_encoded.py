"""Float types beside integers, simulated, and on graphs of every kind."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphpress.ir import (
    DataType,
    clone,
    from_proto,
)
from graphpress.ir.encoding import FLOAT, AffineEncoding, override_use, set_encoding, set_float_type
from graphpress.ir.float_types import round_to
from graphpress.manager.prepare import prepare
from graphpress.models import build as build_family
from graphpress.models import names
from graphpress.runtime import Session

EYE = np.eye(4, dtype=np.float32) * 0.3
TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2}
"""Relative to the largest output; a few roundings of 2⁻¹¹ and 2⁻⁸."""


# -- with encodings -----------------------------------------------------------------------------------------------

SCALE = float(np.float16(0.02))


def quantized(build, opset, scale=SCALE):
    model = build(
        """(float[2,4] x) => (float[2,4] y) {
        r = Relu (x)
        m = MatMul (r, w)
        y = Exp (m)
    }""",
        opset=opset,
        w=EYE,
    )
    set_encoding(model.graph[0].outputs[0], AffineEncoding("int8", (scale,), (0,)))
    set_encoding(model.graph.initializers["w"], AffineEncoding("int8", (scale,) * 4, (0,) * 4, axis=1))
    return model


@pytest.mark.parametrize("opset", [19, 21, 23, 25])
def test_scales_take_the_type_where_the_schema_lets_them(build, opset, ask, materialized, casts, agree):
    model = quantized(build, opset)
    after = materialized(ask(model))
    assert casts(after) == 2
    scales = {node.inputs[1].dtype for node in after.graph if "Linear" in node.op_type}
    assert scales == {DataType.FLOAT16}
    agree(materialized(ask(clone(model), results=())), after, 1e-2)


def test_narrow_types_and_blocks(build, run, ask, materialized, casts, agree):
    """Eight-bit floats in and out of a product, and four-bit weights in blocks, with scales of the type."""
    model = quantized(build, 21)
    set_encoding(model.graph[0].outputs[0], AffineEncoding("float8e4m3fn", (SCALE,), (0,)))
    blocks = AffineEncoding("int4", ((SCALE,) * 4,) * 2, axis=0, block=2)
    set_encoding(model.graph.initializers["w"], blocks)
    after = materialized(ask(model))
    assert casts(after) == 2
    assert {node.inputs[1].dtype for node in after.graph if "Linear" in node.op_type} == {DataType.FLOAT16}
    agree(materialized(ask(clone(model), results=())), after, 2e-2)


@pytest.mark.parametrize("opset", [13, 17])
def test_before_opset_19_casts_stand_around(build, opset, ask, materialized, casts, agree):
    model = quantized(build, opset)
    after = materialized(ask(model))
    assert {node.inputs[1].dtype for node in after.graph if "Linear" in node.op_type} == {DataType.FLOAT}
    assert casts(after) == 5  # x, r, r dequantized, w dequantized, y
    agree(materialized(ask(clone(model), results=())), after, 1e-2)


def test_a_scale_that_would_move_stays_float32(build, ask, materialized):
    after = materialized(ask(quantized(build, 19, scale=0.0199999)))
    assert {node.inputs[1].dtype for node in after.graph if "Linear" in node.op_type} == {DataType.FLOAT}


def test_each_float_type_has_its_own_dequantizer(build, ask, materialized, casts, operators, agree):
    model = build("(float[4] x) => (float[4] y, float[4] z) { a = Relu (x)\n y = Exp (a)\n z = Tanh (a) }", opset=19)
    set_encoding(model.graph[0].outputs[0], AffineEncoding("int8", (SCALE,), (0,)))
    after = materialized(ask(model, results={"a", "y"}))
    assert operators(after)["QuantizeLinear"] == 1
    scales = [node.inputs[1].dtype for node in after.graph if node.op_type == "DequantizeLinear"]
    assert sorted(scale.name for scale in scales) == ["FLOAT", "FLOAT16"]
    assert casts(after) == 2  # x in, y out
    agree(materialized(model), after)


def test_a_public_value_leaves_the_dequantizer_in_float32(build, ask, materialized, casts):
    model = build("(float[4] x) => (float[4] a, float[4] y) { a = Relu (x)\n y = Exp (a) }", opset=19)
    set_encoding(model.graph[0].outputs[0], AffineEncoding("int8", (SCALE,), (0,)))
    after = materialized(ask(model))
    assert casts(after) == 2
    assert after.graph.outputs[0].producer().op_type == "DequantizeLinear"
    assert after.graph.outputs[0].dtype == DataType.FLOAT


def test_float_readers_of_an_encoded_value(build, ask, materialized, operators, agree):
    model = build("(float[4] x) => (float[4] y, float[4] z) { a = Relu (x)\n y = Exp (a)\n z = Tanh (a) }", opset=19)
    set_encoding(model.graph[0].outputs[0], AffineEncoding("int8", (SCALE,), (0,)))
    override_use(model.graph[2], 0, FLOAT)
    after = materialized(ask(model))
    assert operators(after) == {"Cast": 3, "Relu": 1, "Exp": 1, "Tanh": 1, "QuantizeLinear": 1, "DequantizeLinear": 1}
    agree(model, after, 0.05)


# -- simulation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_simulation_rounds_every_result(build, dtype, ask, materialized):
    model = build("(float[64] x) => (float[64] y) { a = Exp (x)\n y = Mul (a, w) }", w=np.float32(1.2345678))
    ask(model, dtype)
    after = materialized(model, simulate=True)
    assert {value.dtype for value in after.graph.initializers.values()} == {DataType.FLOAT}
    x = np.random.default_rng(0).normal(size=64).astype(np.float32)

    def rounded(array):
        return round_to(array, dtype).astype(np.float32)

    expected = rounded(rounded(np.exp(rounded(x))) * rounded(np.float32(1.2345678)))
    for optimization in ("none", "all"):
        actual = Session(after, optimization=optimization).run({"x": x})["y"]
        np.testing.assert_allclose(actual, expected, rtol=2**-7 if dtype == "bfloat16" else 2**-10)
        np.testing.assert_array_equal(actual, rounded(actual))


def test_simulation_does_not_round_what_is_only_moved(build, ask, materialized, casts):
    model = build("(float[2,4] x) => (float[4,2] y) { a = Exp (x)\n b = Relu (a)\n y = Transpose (b) }")
    assert casts(materialized(ask(model, "bfloat16"), simulate=True)) == 4


def test_simulated_and_real_float16_agree(build, ask, materialized, agree):
    model = quantized(build, 19)
    ask(model)
    agree(materialized(model), materialized(model, simulate=True), 3e-3)


# -- whole models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [name for name in names() if name not in ("bert", "gpt", "llama", "chain", "nas")])
def test_families(family, ask, materialized, casts):
    """All but those with masks that float16 cannot hold: those are for the pass to raise."""
    model = build_family(family)
    prepare(model, {})
    after = materialized(ask(model))
    assert all(value.dtype != DataType.FLOAT16 for value in (*after.graph.inputs, *after.graph.outputs))
    assert casts(after) >= 1


UNARY = ("Relu", "Tanh", "Sigmoid", "Neg", "Identity", "Softmax")
BINARY = ("Add", "Mul", "Max", "Sub")


@st.composite
def small_models(draw):
    """Random graphs over 3×3 matrices: some nodes typed, some values public, some encoded."""
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    values, nodes, weights = ["x0", "x1"], [], []
    for index in range(draw(st.integers(1, 8))):
        if draw(st.booleans()):
            weights.append(numpy_helper.from_array(random.normal(0, 0.5, (3, 3)).astype(np.float32), f"w{index}"))
            inputs = [draw(st.sampled_from(values)), draw(st.sampled_from([w.name for w in weights]))]
            op = draw(st.sampled_from(("MatMul", *BINARY)))
        elif draw(st.booleans()):
            inputs, op = [draw(st.sampled_from(values)) for _ in range(2)], draw(st.sampled_from(BINARY))
        else:
            inputs, op = [draw(st.sampled_from(values))], draw(st.sampled_from(UNARY))
        nodes.append(helper.make_node(op, inputs, [f"v{index}"], name=f"n{index}"))
        values.append(f"v{index}")
    public = draw(st.lists(st.sampled_from(values[2:]), min_size=1, unique=True))
    opset = draw(st.sampled_from([13, 17, 19, 21, 23]))

    def infos(some):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 3]) for name in some]

    graph = helper.make_graph(nodes, "g", infos(["x0", "x1"]), infos(public), weights, value_info=infos(values[2:]))
    proto = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])
    model = from_proto(proto)
    prepare(model, {})
    for node in model.graph:
        set_float_type(node, draw(st.sampled_from([None, "float16"])))
        if draw(st.integers(0, 3)) == 0:
            set_encoding(node.outputs[0], AffineEncoding("int8", (draw(st.sampled_from([2**-5, 0.031])),), (0,)))
    return model


@given(model=small_models(), simulate=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_mixture_of_typed_and_untyped_nodes(materialized, casts, model, simulate):
    """Types meet without a needless pair of Casts, and results stay near those of float32 with the same grid."""
    plain = clone(model)
    for node in plain.graph:
        set_float_type(node, None)
    reference, after = materialized(plain), materialized(model, simulate=simulate)
    assert [(value.name, value.type) for value in after.graph.outputs] == [
        (value.name, value.type) for value in model.graph.outputs
    ]
    if not simulate:
        for node in after.graph:
            before = node.inputs[0].producer() if node.op_type == "Cast" else None
            assert before is None or before.op_type != "Cast"
        converted = [(node.inputs[0], node.outputs[0].dtype) for node in after.graph if node.op_type == "Cast"]
        assert len(set(converted)) == len(converted)
    assert unread(after) <= unread(model)
    random = np.random.default_rng(0)
    feed = {name: random.normal(0, 0.5, (3, 3)).astype(np.float32) for name in ("x0", "x1")}
    expected, actual = Session(reference, optimization="none").run(feed), Session(after, optimization="none").run(feed)
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, atol=0.3 + 0.02 * float(np.abs(array).max()))


def unread(model):
    return {name for name, value in model.graph.initializers.items() if not value.uses()}


def test_bfloat16_rounds_to_nearest_even():
    assert round_to(np.float32([1 + 2**-8, 1 + 3 * 2**-8]), "bfloat16").astype(np.float32).tolist() == [1, 1 + 2**-6]
    assert round_to(np.float32([3.4e38]), "bfloat16").dtype == ml_dtypes.bfloat16
