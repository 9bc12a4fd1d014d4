"""fold_constants: what is evaluated, what is left, and how far a model may grow."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphpress.ir import constant, from_proto, weight_bytes
from graphpress.passes.cleanup.fold_constants import FoldConstants

ONE_NODE = {
    "Shape": "c = Shape(w)",
    "Gather": "c = Gather<axis=1>(w, index)",
    "Concat": "c = Concat<axis=-1>(w, w)",
    "Cast down": "c = Cast<to=6>(w)",
    "Slice back": "c = Slice(w, last, first, index, last)",
    "Squeeze": "u = Unsqueeze(w, index) c = Squeeze(u)",
    "Reshape": "c = Reshape(w, infer)",
    "Flatten": "c = Flatten<axis=-1>(w)",
    "Transpose": "c = Transpose(w)",
    "Expand": "c = Expand(w, grow)",
    "ConstantOfShape": "c = ConstantOfShape(grow)",
    "Range": "c = Range(a, b, d)",
    "Div of integers": "c = Div(i, j)",
    "Where": "k = Less(i, j) c = Where(k, i, j)",
    "at the runtime": "s = Sqrt(v) t = Softmax(s) c = MatMul(t, w)",
    "several results": "c, e = Split(w) ",
}
WEIGHTS = {
    "w": np.array([[1.5, -2.5], [3.0, -4.0]], np.float32), "v": np.ones((2, 2), np.float32), "index": np.array([1]),
    "last": np.array([-1]), "first": np.array([-9]), "infer": np.array([-1, 1, 2]), "grow": np.array([3, 1, 2]),
    "a": np.array(7), "b": np.array(-2), "d": np.array(-3), "i": np.array([-7, 7, -7]), "j": np.array([2, -2, -2]),
}  # fmt: skip


@pytest.mark.parametrize("nodes", ONE_NODE.values(), ids=ONE_NODE.keys())
def test_constants_are_evaluated_as_the_runtime_would(build, clean, nodes):
    opset = 12 if "Squeeze" in nodes and "Unsqueeze" not in nodes else 17
    model = build(f"(float[2] x) => (float[2] y, float z) {{ {nodes} f = Cast<to=1>(c) z = ReduceMax(f) y = Relu(x) }}",
                  opset=opset, **WEIGHTS)  # fmt: skip
    done = clean(FoldConstants(), model)
    assert done.ops.count("Constant") == 1, "the output that no longer depends on anything"
    assert done.ops[-1] == "Relu"
    assert done.outcome.refusals == []


def test_constant_nodes_become_initializers_in_subgraphs_too(build, clean):
    model = build(
        "(float[2] x, bool c) => (float[2] y) { k = Constant<value_float=2.0>() "
        "y = If(c)<then_branch = t () => (float[2] a) { m = Constant<value = float {3.0}>() a = Mul(x, m) }, "
        "else_branch = e () => (float[2] b) { b = Mul(x, k) }> }"
    )
    done = clean(FoldConstants(), model)
    assert done.ops == ["If"]
    assert all("Constant" not in [node.op_type for node in graph] for graph in done.model.graph.subgraphs())


def test_a_constant_of_the_outer_graph_folds_inside_and_a_variable_does_not(build, clean):
    model = build(
        "(float[2] x, bool c) => (float[2] y) "
        "{ y = If(c)<then_branch = t () => (float[2] a) { h = Neg(k) a = Mul(x, h) }, "
        "else_branch = e () => (float[2] b) { g = Neg(x) b = Add(g, k) }> }",
        k=np.array([1, 2], np.float32),
    )
    done = clean(FoldConstants(), model)
    inner = [[node.op_type for node in graph] for graph in done.model.graph.subgraphs()]
    assert inner == [["Mul"], ["Neg", "Add"]]


@pytest.mark.parametrize(
    "node",
    [
        "r = RandomUniformLike(k)",
        "r, m = Dropout(k, half, yes)",
        "q = QuantizeLinear(k, one, zero) r = DequantizeLinear(q, one, zero)",
    ],
)
def test_randomness_and_annotations_stay(build, apply, node):
    model = build(
        f"(float[2] x) => (float[2] y) {{ {node} y = Add(x, r) }}",
        k=np.ones(2, np.float32), half=np.array(0.5, np.float32), yes=np.array(True),
        one=np.array(1, np.float32), zero=np.array(0, np.uint8),
    )  # fmt: skip
    assert apply(FoldConstants(), model).changes == 0


def test_an_initializer_that_the_caller_may_override_is_not_folded():
    graph = helper.make_graph(
        [helper.make_node("Neg", ["w"], ["n"]), helper.make_node("Add", ["x", "n"], ["y"])],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "w")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.ones(2, np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert _fold(model)[1].changes == 0
    model.ir_version = 3
    assert _fold(model)[1].changes == 1


def _fold(proto, **options):
    from graphpress.ir import clone
    from graphpress.manager.contract import Context
    from graphpress.targets import load_target

    model = from_proto(proto)
    return model, FoldConstants(**options).run(model, Context(load_target("cpu"), clone(model)))


@pytest.mark.parametrize(
    "node",
    ["b = ConstantOfShape(size)", "b = Expand(one, size)", "b = Tile(ones, size)", "b = OneHot(index, depth, values)"],
)
def test_blow_ups_are_refused_before_they_are_made(build, apply, node):
    model = build(
        f"(float[2] x) => (float[n] y) {{ {node} s = ReduceSum<keepdims=0>(b) y = Add(x, s) }}",
        size=np.array([1 << 20, 1 << 20]), one=np.ones(1, np.float32), ones=np.ones((1, 1), np.float32),
        index=np.zeros(1 << 10, np.int64), depth=np.array([1 << 20]), values=np.array([0, 1], np.float32),
    )  # fmt: skip
    outcome = apply(FoldConstants(), model)
    assert outcome.changes == 0
    assert "the model may grow by" in outcome.refusals[0].why
    assert outcome.refusals[0].fix == "raise max_growth_bytes"


def test_what_grows_by_repetition_is_refused_before_it_is_made(build, apply):
    """Two thousand times the name of one constant takes little in a file."""
    parts = ", ".join(["w"] * 2000)
    model = build(
        f"(float[1] x) => (float[N] y) {{ c = Concat<axis=0>({parts}) y = Mul(c, x) }}", w=np.ones(50_000, np.float32)
    )
    tracemalloc.start()
    try:
        outcome = apply(FoldConstants(), model)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome.changes == 0
    assert "the model may grow by" in outcome.refusals[0].why
    assert peak < 50e6


def test_growth_is_bounded_in_all_and_over_repeated_runs(build):
    text = "(float[1] x) => (float[n] y) { " + " ".join(f"b{i} = ConstantOfShape(s{i})" for i in range(8))
    text += " y = Concat<axis=0>(x, " + ", ".join(f"b{i}" for i in range(8)) + ") }"
    model = build(text, **{f"s{i}": np.array([1000 + i]) for i in range(8)})
    from graphpress.ir import clone
    from graphpress.manager.contract import Context
    from graphpress.targets import load_target

    context = Context(load_target("cpu"), clone(model))
    bound = weight_bytes(model) + 10_000
    for _ in range(3):
        FoldConstants(max_growth_bytes=10_000).run(model, context)
        assert weight_bytes(model) <= bound


def test_what_does_not_grow_is_folded_whatever_its_size(build, clean):
    model = build("(float[2] x) => (float[2] y) { t = Transpose(w) n = Neg(t) y = MatMul(n, x) }",
                  w=np.ones((2, 2), np.float32))  # fmt: skip
    rule = FoldConstants(max_growth_bytes=0)
    assert clean(rule, model).ops == ["MatMul"]


def test_what_the_runtime_refuses_stays_and_says_why(build, apply):
    model = build(
        "(float[2] x) => (float[2] y) { a = Sqrt(k) b = Gather(a, i) c = Sqrt(a) d = Add(b, c) y = Add(x, d) }",
        k=np.ones(2, np.float32),
        i=np.array([7, 8]),
    )
    outcome = apply(FoldConstants(), model)
    assert [node.op_type for node in model.graph] == ["Gather", "Add", "Add"]
    assert "ONNX Runtime refuses it" in outcome.refusals[0].why
    assert "operand could not be evaluated" in outcome.refusals[1].why


def test_a_missing_operand_type_is_left_alone(build, apply):
    half = onnx.helper.make_tensor("w", TensorProto.BFLOAT16, [2], [1.0, 2.0])
    graph = helper.make_graph(
        [helper.make_node("Neg", ["w"], ["n"]), helper.make_node("Add", ["x", "n"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [2])],
        [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, [2])],
        [half],
    )
    assert _fold(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))[1].changes == 0


def test_functions_keep_their_constants(build, apply):
    model = build(
        "(float[2] x) => (float[2] y) { y = local.f(x) }",
        functions='<domain: "local", opset_import: ["": 17]> f (x) => (y) '
        "{ c = Constant<value_float=1.0>() d = Neg(c) y = Add(x, d) }",
    )
    assert apply(FoldConstants(), model).changes == 0


integers = st.integers(-(2**31), 2**31)


@settings(max_examples=40, deadline=None)
@given(
    operator=st.sampled_from(["Add", "Sub", "Mul", "Div"]),
    pairs=st.lists(st.tuples(integers, integers.filter(bool)), min_size=1, max_size=5),
)
def test_integer_arithmetic_agrees_with_the_runtime(operator, pairs):
    from graphpress.passes.cleanup import _evaluate, _kernels

    one, other = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])], "g", [],
        [helper.make_tensor_value_info("c", TensorProto.INT64, [len(one)])],
        [numpy_helper.from_array(one, "a"), numpy_helper.from_array(other, "b")],
    )  # fmt: skip
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    (node,) = model.graph
    known = {value: constant(value) for value in node.inputs}
    expected = _evaluate.evaluate([node], known, model).arrays[node.outputs[0]]
    np.testing.assert_array_equal(_kernels.evaluate(node, list(known.values())), expected)
