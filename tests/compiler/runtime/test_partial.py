"""The part of a model that runs without its opaque operators, and which those are."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node

from graphpress.analysis.shapes import infer_shapes
from graphpress.ir import clone, forget_inner_types, from_proto
from graphpress.ir.opaque import behind_opaque, hidden_values, mark_opaque, opacity_of
from graphpress.runtime import Session
from graphpress.runtime.kernels import operators_without_kernel
from graphpress.runtime.partial import NOTHING

DIMS = ["N", 3]
X = {"x": np.array([[1, -2, 3], [-4, 5, -6]], np.float32)}


def info(name, dims=DIMS, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, dims)


def model(*nodes, declared=("z",), outputs=("y",)):
    """x → … → y; whatever computes a declared value is known to compute a matrix."""
    graph = helper.make_graph(list(nodes), "g", [info("x")], list(map(info, outputs)), value_info=map(info, declared))
    imports = [helper.make_opsetid(domain, 1) for domain in ("acme", "com.microsoft")]
    imports.append(helper.make_opsetid("", 17))
    made = from_proto(helper.make_model(graph, opset_imports=imports, ir_version=8))
    infer_shapes(made)
    return made


def acme(reads="a", writes="z", **given):
    return make_node("Whirl", [reads], [writes], "whirl", domain="acme", **given)


def marked(*nodes, **options):
    made = model(*nodes, **options)
    mark_opaque(made, {("acme", "Whirl")})
    return made


CHAIN = make_node("Relu", ["x"], ["a"], "relu"), acme(), make_node("Neg", ["z"], ["y"], "neg")


def test_what_is_ahead_is_computed_and_what_is_behind_on_made_up_numbers():
    made = marked(*CHAIN)
    assert Session(made).output_names == ["a into whirl"]
    session = Session(made, made_up=True)
    assert [spec.name for spec in session.inputs] == ["x"]
    answer = session.run(X)
    np.testing.assert_array_equal(answer["a into whirl"], np.maximum(X["x"], 0))
    assert answer["y"].shape == (2, 3)
    np.testing.assert_array_equal(answer["y"], Session(clone(made), made_up=True).run(X)["y"])


def test_what_is_not_declared_is_unknown_and_all_that_depends_on_it():
    made = marked(*CHAIN, declared=())
    assert Session(made, made_up=True).output_names == ["a into whirl"]
    made = marked(acme("x"), make_node("Neg", ["z"], ["y"]), declared=())
    assert Session(made, made_up=True).run(X) == {NOTHING: 0}


def test_names_stay_when_values_around_are_renamed():
    """As when an Identity behind the operator goes, so that its result is the output."""
    before = marked(CHAIN[0], acme(), make_node("Identity", ["z"], ["y"], "same"))
    after = marked(make_node("Relu", ["x"], ["b"], "relu"), acme("b", "y"), declared=())
    after.meta.update(before.meta)
    answers = [Session(made, made_up=True).run(X) for made in (before, after)]
    assert list(answers[0]) == list(answers[1]) == ["y", "a into whirl"]
    for name in answers[0]:
        np.testing.assert_array_equal(answers[0][name], answers[1][name])


def test_nodes_behind_are_known():
    made = marked(*CHAIN)
    assert [node.name for node in behind_opaque(made)] == ["neg"]
    assert {value.name for value in hidden_values(made)} == {"z", "y"}
    assert not list(behind_opaque(model(*CHAIN)))


def test_one_that_nobody_reads_is_not_watched():
    made = marked(*CHAIN[:2], make_node("Neg", ["a"], ["y"], "neg"))
    assert not opacity_of(made).operands
    assert Session(made).output_names == ["y"]


def test_declarations_stay_that_nobody_could_infer_again():
    made = marked(*CHAIN)
    forget_inner_types(made)
    assert {value.name: value.shape is not None for node in made.graph for value in node.outputs} == {
        "a": False,
        "z": True,
        "y": True,
    }


@pytest.mark.parametrize(
    ("node", "missing"),
    [
        (acme(), {("acme", "Whirl")}),
        (make_node("DCNv2", ["a"], ["z"]), {("", "DCNv2")}),
        (make_node("Whirl", ["a"], ["z"], domain="com.microsoft"), {("com.microsoft", "Whirl")}),
        (make_node("FastGelu", ["a"], ["z"], domain="com.microsoft"), set()),
        (make_node("Gelu", ["a"], ["z"], domain="com.microsoft"), set()),
        (make_node("Sigmoid", ["a"], ["z"]), set()),
    ],
    ids=lambda given: given.op_type if isinstance(given, onnx.NodeProto) else "",
)
def test_operators_are_asked_for_by_loading_them(node, missing):
    assert operators_without_kernel(model(CHAIN[0], node, CHAIN[2])) == missing


def test_one_in_a_body_is_missing_too():
    bodies = {
        branch: helper.make_graph([make_node(op_type, ["x"], [out], domain=domain)], branch, [], [info(out)])
        for branch, op_type, domain, out in (
            ("then_branch", "Whirl", "acme", "t"),
            ("else_branch", "Relu", "", "e"),
        )
    }
    nodes = make_node("ReduceMax", ["x"], ["m"], keepdims=0), make_node("Cast", ["m"], ["c"], to=TensorProto.BOOL)
    made = model(*nodes, make_node("If", ["c"], ["z"], "if", **bodies), CHAIN[2])
    assert operators_without_kernel(made) == {("acme", "Whirl")}
    mark_opaque(made, {("acme", "Whirl")})
    assert opacity_of(made).opened == {"if"}
    assert Session(made).output_names == ["c into if"]
    assert set(Session(made, made_up=True).run(X)) == {"y", "c into if"}
