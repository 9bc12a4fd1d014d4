"""Float types written out: Casts only where two types meet, constants once, public names and types as before."""

import tracemalloc

import numpy as np
import pytest

from graphpress.errors import ModelError
from graphpress.ir import (
    DataType,
    clone,
    load,
    materialize_float_types,
    save,
    to_proto,
)
from graphpress.ir.encoding import set_float_type
from graphpress.ir.float_types import why_not
from graphpress.ir.printer import print_model
from graphpress.ir.signatures import known_types
from graphpress.manager.prepare import prepare
from graphpress.models import build as build_family

EYE = np.eye(4, dtype=np.float32) * 0.3
TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2}
"""Relative to the largest output; a few roundings of 2⁻¹¹ and 2⁻⁸."""


@pytest.fixture
def mlp(build):
    """Two layers, one constant shared by both, float32 outside."""
    return build(
        """(float[N,4] x) => (float[N,4] y) {
        a = MatMul (x, w)
        b = Add (a, bias)
        c = Relu (b)
        d = MatMul (c, w)
        y = Add (d, bias)
    }""",
        w=EYE,
        bias=np.float32([0.1, 0.2, 0.3, 0.4]),
    )


def test_casts_stand_at_the_border_only(mlp, ask, materialized, operators, agree):
    after = materialized(ask(mlp))
    assert operators(after) == {"Cast": 2, "MatMul": 2, "Add": 2, "Relu": 1}
    assert [value.name for value in after.graph.inputs] == ["x"]
    assert [value.name for value in after.graph.outputs] == ["y"]
    assert after.graph.inputs[0].dtype == after.graph.outputs[0].dtype == DataType.FLOAT
    agree(mlp, after)


def test_constants_are_converted_once_and_float_copies_dropped(mlp, ask, materialized):
    after = materialized(ask(mlp))
    assert {name: value.dtype for name, value in after.graph.initializers.items()} == {
        "w_float16": DataType.FLOAT16,
        "bias_float16": DataType.FLOAT16,
    }


def test_constants_that_lie_in_their_file_are_not_held_in_memory(build, ask, materialized, tmp_path, monkeypatch):
    monkeypatch.setattr("graphpress.ir.weights.LARGE_FILE_BYTES", 1 << 20)
    monkeypatch.setattr("graphpress.ir.files.LARGE_FILE_BYTES", 1 << 20, raising=False)
    weight = np.random.default_rng(0).standard_normal((1024, 1024), np.float32)
    model = build("(float[N,1024] x) => (float[N,1024] y) { y = MatMul(x, w) }", w=weight)
    (file,) = save(model, tmp_path / "model.onnx")
    del model
    tracemalloc.start()
    after = materialized(ask(load(file)))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < weight.nbytes / 4
    converted = after.graph.initializers["w_float16"].const_value
    np.testing.assert_array_equal(converted.numpy(), weight.astype(np.float16))


def test_a_constant_read_in_two_types_is_there_in_both(mlp, ask, materialized, casts, agree):
    after = materialized(ask(mlp, results={"a", "b", "c"}))
    assert set(after.graph.initializers) == {"w", "bias", "w_float16", "bias_float16"}
    assert casts(after) == 2
    agree(mlp, after)


def test_one_cast_serves_all_readers(build, ask, materialized, casts, agree):
    model = build("(float[4] x) => (float[4] y, float[4] z) { a = Relu (x)\n y = Exp (a)\n z = Tanh (a) }")
    after = materialized(ask(model, results={"y", "z"}))
    assert casts(after) == 3  # a, y and z
    agree(model, after)


def test_a_result_read_in_both_types_and_public(build, ask, materialized, casts, agree):
    model = build("(float[4] x) => (float[4] a, float[4] y, float[4] z) { a = Relu (x)\n y = Exp (a)\n z = Tanh (a) }")
    after = materialized(ask(model, results={"a", "y"}))
    assert casts(after) == 3  # x in, a and y out; z reads the public a
    assert [node.inputs[0].name for node in after.graph if node.op_type == "Tanh"] == ["a"]
    agree(model, after)


def test_nothing_asked_nothing_done(mlp):
    before = print_model(mlp)
    assert materialize_float_types(mlp) == 0
    assert print_model(mlp) == before


def test_materializing_twice_changes_nothing(mlp, ask, materialized):
    once = materialized(ask(mlp))
    again = clone(once)
    assert materialize_float_types(again) == 0
    assert print_model(again) == print_model(once)


def test_annotations_survive_a_file(mlp, tmp_path, ask):
    save(ask(mlp, results={"a", "b"}), tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    assert print_model(again) == print_model(mlp)
    assert " in float16 -> " in print_model(again)


def test_two_types_in_one_model(build, ask, materialized, agree):
    model = build("(float[4] x) => (float[4] y) { a = Relu (x)\n y = Exp (a) }")
    ask(model, "bfloat16", {"a"})
    ask(model, "float16", {"y"})
    after = materialized(model)
    assert [node.attributes["to"].as_int() for node in after.graph if node.op_type == "Cast"] == [
        DataType.BFLOAT16,
        DataType.FLOAT16,
        DataType.FLOAT,
    ]
    agree(model, materialized(model, simulate=True), TOLERANCE["bfloat16"])


# -- what a schema lets change ------------------------------------------------------------------------------------


def test_settings_and_fixed_inputs_stay_float32(build, ask, materialized, casts, agree):
    model = build(
        """(float[1,1,2,2] x) => (float[1,1,4,4] y) {
        y = Resize <mode: string = "linear"> (x, roi, scales)
    }""",
        roi=np.zeros(0, np.float32),
        scales=np.float32([1, 1, 2, 2]),
    )
    after = materialized(ask(model))
    assert {value.dtype for value in after.graph.initializers.values()} == {DataType.FLOAT}
    assert casts(after) == 2
    agree(model, after)


@pytest.mark.parametrize(
    ("text", "opset", "reason"),
    [
        ("y = NonMaxSuppression (x, s)", 17, "does not take float16"),
        ("y = Conv (x, s)", 17, "does not take bfloat16 at opset 17, but from 22 on"),
        ("y = custom.Own (x)", 17, "not of the ONNX standard"),
        ("y = Shape (i)", 17, "does not compute in float32"),
        ("q = SequenceConstruct (x)\n y = SequenceLength (q)", 17, "sequences"),
        ("u = custom.Own (x)\n y = Add (u, x)", 17, "the type of u is not known"),
    ],
)
def test_why_not(build, text, opset, reason):
    model = build(f"(float[1,2,4] x, float[1,1,2] s, int64[2] i) => (y) {{ {text} }}", opset=opset)
    dtype = "bfloat16" if "bfloat16" in reason else "float16"
    types = known_types(model)
    refusals = [why_not(node, dtype, types) for node in model.graph]
    reasons = [refusal for refusal in refusals if refusal is not None]
    assert any(reason in each.why for each in reasons), reasons
    assert [each.opset for each in reasons if each.opset] == ([22] if "from 22 on" in reason else [])


def test_a_node_that_cannot_stays_as_it_is(build, materialized):
    model = build("(float[1,2,4] x, float[1,1,2] s) => (int64[K,3] y) { y = NonMaxSuppression (x, s) }")
    set_float_type(model.graph[0], "float16")
    before = to_proto(materialized(model)).graph.node
    assert [node.op_type for node in before] == ["NonMaxSuppression"]


def test_unknown_types_are_refused(mlp):
    set_float_type(mlp.graph[0], "float24")
    with pytest.raises(ModelError, match="float24"):
        materialize_float_types(mlp)


def test_a_constant_that_does_not_fit_is_named(build, ask):
    model = build("(float[4] x) => (float[4] y) { y = Add (x, big) }", big=np.float32(-1e9))
    with pytest.raises(ModelError, match=r"big.*does not fit float16"):
        materialize_float_types(ask(model))


def test_infinite_constants_stay_infinite(build, ask, materialized, agree):
    model = build("(float[4] x) => (float[4] y) { y = Max (x, low) }", low=np.float32(-np.inf))
    agree(model, materialized(ask(model)))


def test_readers_of_any_type_need_no_cast(build, ask, materialized, casts, agree):
    model = build(
        """(float[2,4] x) => (int64[2] s, int64[2] a, bool[2,4] n, int32[2,4] i) {
        r = Relu (x)
        s = Shape (r)
        a = ArgMax <axis: int = 1, keepdims: int = 0> (r)
        n = IsNaN (r)
        i = Cast <to: int = 6> (r)
    }"""
    )
    after = materialized(ask(model, results={"r"}))
    assert casts(after) == 2  # the one into Relu, and i itself
    agree(model, after)


def test_a_cast_makes_the_type_itself(build, ask, materialized, agree):
    model = build("(bool[4] m, float[4] x) => (float[4] y) { f = Cast <to: int = 1> (m)\n y = Mul (f, x) }")
    after = materialized(ask(model))
    assert [node.attributes["to"].as_int() for node in after.graph if node.op_type == "Cast"] == [10, 10, 1]
    agree(model, after, feed={"m": np.array([True, False, True, False])})


def test_constants_of_nodes(build, ask, materialized, operators, agree):
    model = build(
        """(float[4] x) => (float[4] y) {
        low = Constant <value_float: float = -1.0> ()
        high = Constant <value = float {1.0}> ()
        y = Clip (x, low, high)
    }"""
    )
    after = materialized(ask(model))
    assert operators(after) == {"Cast": 2, "Clip": 1}
    agree(model, after)


def test_an_overridable_constant_is_an_input(build, ask, materialized, casts, agree):
    model = build("(float[4] x, float[4] w = {1, 2, 3, 4}) => (float[4] y) { y = Add (x, w) }", ir_version=8)
    after = materialized(ask(model))
    assert after.graph.initializers["w"].dtype == DataType.FLOAT
    assert casts(after) == 3
    agree(model, after)


# -- subgraphs and functions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_subgraphs_keep_their_own_borders(dtype, ask, materialized, agree):
    model = build_family("control_flow")
    prepare(model, {})
    after = materialized(ask(model, dtype), simulate=dtype == "bfloat16")
    bodies = list(zip(model.graph.subgraphs(), after.graph.subgraphs(), strict=True))
    assert bodies
    for before, body in bodies:
        for old, new in zip((*before.inputs, *before.outputs), (*body.inputs, *body.outputs), strict=True):
            assert old.type == new.type
    agree(model, after, TOLERANCE[dtype])


def test_a_value_of_the_outer_graph_is_cast_where_it_is_made(build, ask, materialized, casts, agree):
    model = build(
        """(float[4] x, bool c) => (float[4] y) {
        a = Relu (x)
        y = If (c) <
            then_branch = yes () => (float[4] t) { t = Add (a, w) },
            else_branch = no () => (float[4] e) { e = Exp (a) }
        >
    }""",
        w=np.float32([1, 2, 3, 4]),
    )
    after = materialized(ask(model, results={"a", "t"}))
    assert casts(after) == 3  # x in; a for the float32 branch; t out
    assert all(node.op_type != "Cast" for node in list(after.graph.subgraphs())[1])
    for choice in (True, False):
        agree(model, after, feed={"c": np.array(choice)})


def test_functions_keep_their_bodies(build, ask, materialized, agree):
    model = build(
        "(float[4] x) => (float[4] y) { a = Relu (x)\n b = local.twice (a)\n y = Exp (b) }",
        functions='<opset_import: ["": 17], domain: "local"> twice (u) => (v) { v = Add (u, u) }',
    )
    prepare(model, {})
    ask(model)
    for function in model.functions.values():
        for node in function:
            set_float_type(node, "float16")
    after = materialized(model)
    (body,) = after.functions.values()
    assert [node.op_type for node in body] == ["Add"]
    agree(model, after)
