"""All clean-up passes together: random graphs, what must not be touched, time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper, numpy_helper

import graphpress.passes.cleanup
from graphpress.ir import ExternalTensor, Model, clone, from_proto, load, verify
from graphpress.ir.encoding import AffineEncoding, set_encoding
from graphpress.manager.contract import Context
from graphpress.manager.registry import load_pass
from graphpress.models.chain import Chain
from graphpress.targets import load_target

NAMES = sorted(
    file.stem
    for file in Path(graphpress.passes.cleanup.__file__).parent.glob("[a-z]*.py")
    if not file.stem.startswith("_")
)
ROUNDS = 20
STEPS = (
    "Relu({a})", "Neg({a})", "Identity({a})", "Abs({a})", "Sigmoid({a})", "Transpose<perm=[1,0]>({a})",
    "Transpose({a})",
    "Add({a}, zero)", "Mul({a}, one)", "Add({a}, two)", "Sub({a}, two)", "Mul({a}, half)", "Div({a}, two)",
    "Clip({a}, zero, two)", "Clip({a}, , two)", "Reshape({a}, square)", "Reshape({a}, copy)", "Flatten({a})",
    "Add({a}, {b})", "Mul({a}, {b})", "Max({a}, {b})", "Sub({a}, {b})", "Sum({a}, {b}, grid)", "Mul({a}, grid)",
    "Add({a}, row)", "Pad({a}, nothing)", "Slice({a}, start, end, axes)", "Expand({a}, square)", "Tile({a}, ones)",
    "Cast<to=1>({a})", "Dropout({a})", "Where(yes, {a}, {b})", "MatMul({a}, {b})", "Softmax<axis=1>({a})",
)  # fmt: skip
WEIGHTS = {
    "zero": np.array(0, np.float32), "one": np.array(1, np.float32), "two": np.array(2, np.float32),
    "half": np.array([0.5], np.float32), "square": np.array([3, 3]), "copy": np.array([0, -1]),
    "grid": np.arange(9, dtype=np.float32).reshape(3, 3) / 9, "row": np.array([1, 2, 3], np.float32),
    "nothing": np.zeros(4, np.int64), "start": np.array([0, 0]), "end": np.array([9, 9]), "axes": np.array([0, -1]),
    "ones": np.array([1, 1]), "yes": np.array([[True], [False], [True]]),
}  # fmt: skip


def settle(model: Model) -> None:
    """Run all passes until nothing changes."""
    context = Context(load_target("cpu"), clone(model))
    passes = [load_pass(name)() for name in NAMES]
    for _ in range(ROUNDS):
        changes = 0
        for each in passes:
            if each.refuse(model, context) is None:
                changes += each.run(model, context).changes
                verify(model)
        if not changes:
            return
    raise AssertionError(f"not settled after {ROUNDS} rounds")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=14),
    kept=st.integers(1, 3),
)
def test_random_graphs_compute_the_same(build, run, steps, kept):
    values = ["x", "z"]
    nodes = []
    for index, (step, one, other) in enumerate(steps):
        a, b = values[-1 - one % len(values)], values[-1 - other % len(values)]
        nodes.append(f"v{index} = {step.format(a=a, b=b)}")
        values.append(f"v{index}")
    outputs = ", ".join(f"float[3,3] {name}" for name in values[2:][-kept:])
    before = build(f"(float[3,3] x, float[3,3] z) => ({outputs}) {{ {' '.join(nodes)} }}", **WEIGHTS)
    after = clone(before)
    settle(after)
    expected, got = run(before), run(after)
    assert list(got) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)
    assert len(after.graph) <= len(before.graph)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_a_pass_of_its_name(name):
    assert load_pass(name).name == name
    assert load_pass(name).lossless


def test_other_domains_are_not_touched():
    nodes = [
        helper.make_node("Identity", ["x"], ["a"], domain="vendor"),
        helper.make_node("Identity", ["a"], ["b"], domain="vendor"),
        helper.make_node("Identity", ["a"], ["c"], domain="vendor"),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("vendor", 1)])
    model = from_proto(proto)
    settle(model)
    assert [node.op_type for node in model.graph] == ["Identity", "Identity", "Identity", "Add"]


def test_a_loop_keeps_what_it_carries(build, run):
    model = build(
        "(float[2] x) => (float[2] y, float[3,2] s) { y, s = Loop(trips, , x) "
        "<body = b (int64 i, bool c, float[2] v) => (bool d, float[2] w, float[2] o) "
        "{ d = Identity(c) k = Constant<value = float {2.0}>() m = Mul(v, k) n = Identity(m) "
        "w = Add(n, x) o = Identity(v) }> }",
        trips=np.array(3),
    )
    before = run(model)
    settle(model)
    for name, array in run(model).items():
        np.testing.assert_allclose(array, before[name])
    (body,) = model.graph.subgraphs()
    assert [node.op_type for node in body] == ["Identity", "Mul", "Add", "Identity"]


def test_external_weights_stay_on_disk(tmp_path):
    nodes = [helper.make_node("Identity", ["w"], ["i"]), helper.make_node("MatMul", ["x", "i"], ["y"])]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    proto = helper.make_model(helper.make_graph(nodes, "g", infos[:1], infos[1:], [weight]), ir_version=10,
                              opset_imports=[helper.make_opsetid("", 17)])  # fmt: skip
    external_data_helper.convert_model_to_external_data(proto, location="weights.bin", size_threshold=0)
    onnx.save(proto, tmp_path / "model.onnx")
    model = load(tmp_path / "model.onnx")
    settle(model)
    assert [node.op_type for node in model.graph] == ["MatMul"]
    assert all(isinstance(value.const_value, ExternalTensor) for value in model.graph.initializers.values())


def test_work_is_linear_in_the_graph(work):
    def clean(nodes):
        model = Chain(nodes=nodes).build()
        context = Context(load_target("cpu"), model)
        return work(lambda: [load_pass(name)().run(model, context) for name in NAMES])

    clean(100)
    assert clean(4_000) < 4.4 * clean(1_000)


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Relu(x) y = Relu(a)",
        "a = Clip(x, low, high) y = Relu(a)",
        "a = Mul(x, high) y = Mul(a, high)",
        "a = Transpose(x) y = Transpose(a)",
        "a = Unsqueeze(x, first) y = Reshape(a, square)",
        "a = Transpose(w) y = Add(x, a)",
    ],
)
def test_what_is_rounded_to_an_encoding_is_not_merged_away(build, nodes):
    model = build(
        f"(float[3,3] x) => (float[3,3] y) {{ {nodes} }}",
        low=np.array(0, np.float32), high=np.array(6, np.float32), first=np.array([0]), square=np.array([3, 3]),
        w=np.ones((3, 3), np.float32),
    )  # fmt: skip
    before = [node.op_type for node in model.graph]
    set_encoding(model.graph[0].outputs[0], AffineEncoding("uint8", scale=(0.1,), zero_point=(0,)))
    settle(model)
    assert [node.op_type for node in model.graph] == before
