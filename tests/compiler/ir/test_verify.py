"""The verifier names each fault; the printer's text is stable."""

import numpy as np
import pytest

from graphpress.ir import InvalidGraphError, Shape, Tensor, problems, verify
from graphpress.models import build as build_family
from graphpress.models import names

W = np.arange(3, dtype=np.float32)
TEXT = "(float[3] x) => (float[3] y) { a = Relu (x) b = Neg (a) y = Add (b, w) }"
BRANCH = """(bool c, float[3] x) => (float[3] y) {
    h = Relu (x)
    y = If (c) <then_branch = t () => (float[3] p) { p = Neg (h) }, else_branch = e () => (float[3] q) { q = Abs (h) }>
}"""


@pytest.mark.parametrize("family", names())
def test_sound_models_have_no_faults(family):
    verify(build_family(family))


def test_use_before_definition(build, node_of):
    model = build(TEXT, w=W)
    model.graph.remove(node_of(model, "a"))
    assert problems(model) == [" -> b reads a, which nothing before it computes".replace(" -> b", "Neg -> b")]


def test_nodes_out_of_order(build, node_of):
    model = build(TEXT, w=W)
    node = node_of(model, "a")
    model.graph.remove(node)
    model.graph.append(node)
    assert problems(model) == ["Neg -> b reads a, which nothing before it computes"]


def test_a_node_that_reads_a_value_of_a_subgraph(build, node_of, value_of):
    model = build(BRANCH)
    node_of(model, "q").replace_input_with(0, value_of(model, "p"))
    assert problems(model) == ["Abs -> q reads p, which nothing before it computes"]


def test_a_name_given_twice(build, value_of):
    model = build(TEXT, w=W)
    value_of(model, "a").name = "b"
    assert problems(model) == ["the name 'b' is given to two values"]


def test_names_of_both_branches_may_be_the_same(build, value_of):
    model = build(BRANCH)
    value_of(model, "q").name = "p"
    verify(model)


def test_absent_outputs_have_no_name(build):
    verify(build("(float[1,3] x) => (float[1,3] y) { y, , z = custom.Op (x) v, , w = custom.Op (x) }"))


def test_an_undeclared_operator_set(build):
    model = build("(float[3] x) => (float[3] y) { y = custom.Op (x) }")
    del model.opset_imports["custom"]
    assert problems(model) == ["Op -> y is of domain 'custom', for which no operator set is declared"]


def test_an_output_that_nothing_computes(build, node_of, value_of):
    model = build(TEXT, w=W)
    model.graph.remove(node_of(model, "y"))
    assert problems(model) == ["graph output y is computed by nothing"]


def test_a_constant_whose_declaration_is_not_that_of_its_tensor(build, value_of):
    model = build(TEXT, w=W)
    value = value_of(model, "w")
    value.const_value = Tensor(np.ones((2, 3), np.float16), name="w")
    assert problems(model) == [
        "initializer w is declared FLOAT but holds FLOAT16",
        "initializer w is declared [3] but holds [2, 3]",
    ]
    value.shape = Shape(["N", 3])
    assert len(problems(model)) == 1
    for dims, shown in ((["N", 5], "[N, 5]"), (["N"], "[N]"), ([None, 3, 1], "[?, 3, 1]")):
        value.shape = Shape(dims)
        assert problems(model)[1:] == [f"initializer w is declared {shown} but holds [2, 3]"]
    value.const_value = None
    assert problems(model) == ["initializer w has no contents"]


def test_faults_in_functions_are_found(build, node_of):
    model = build(
        "(float[3] x) => (float[3] y) { y = local.f (x) }",
        functions='<domain: "local", opset_import: ["": 17]> f (a) => (b) { c = Relu (a) b = Neg (c) }',
    )
    function = next(iter(model.functions.values()))
    function.remove(node_of(model, "c"))
    assert problems(model) == ["Neg -> b reads c, which nothing before it computes"]


def test_verify_raises_and_names_the_first_faults(build, node_of):
    model = build(TEXT, w=W)
    model.graph.remove(node_of(model, "a"))
    with pytest.raises(InvalidGraphError, match="Neg -> b reads a"):
        verify(model)
