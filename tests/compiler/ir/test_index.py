"""The operator index: what it lists, in which order, and what it says of graphs that were removed."""

import pytest

from graphpress.ir import Editor, OperatorIndex, graphs


@pytest.fixture(name="nested")
def _nested(build):
    return build(
        """(bool c, float[3] x) => (float[3] y) {
            h = local.f (x)
            r = Relu (h)
            y = If (c) <then_branch = t () => (float[3] p) { i = Relu (r) p = Neg (i) },
                        else_branch = e () => (float[3] q) { q = Neg (r) }>
        }""",
        functions="""<domain: "local", opset_import: ["": 17]>
            f (a) => (b) { c = Relu (a) d = Abs (c) b = Relu (d) }""",
    )


def test_lists_the_nodes_of_every_graph_in_order(nested):
    index = OperatorIndex(nested)
    assert [indexed.graph for indexed in index.graphs] == list(graphs(nested))
    assert [[node.op_type for node in indexed.nodes()] for indexed in index.graphs] == [
        ["f", "Relu", "If"],
        ["Relu", "Neg"],
        ["Neg"],
        ["Relu", "Abs", "Relu"],
    ]
    assert index.count == 9


def test_lists_the_nodes_of_several_operators_as_the_graph_has_them(nested):
    body = OperatorIndex(nested).graphs[-1]
    assert [node.op_type for node in body.nodes(("Abs", "Softmax", "Relu"))] == ["Relu", "Abs", "Relu"]
    assert [node.op_type for node in body.nodes(("Abs",))] == ["Abs"]
    assert body.nodes(("Softmax",)) == []


def test_holds_until_it_is_notified_of_a_change(nested):
    index = OperatorIndex(nested)
    assert index.count == 9
    relu = nested.graph.node(1)
    Editor(nested).add_node("Neg", [relu.inputs[0]], before=relu)
    assert index.count == 9
    index.forget()
    assert index.count == 10


def test_a_graph_goes_with_the_node_that_holds_it(nested):
    index = OperatorIndex(nested)
    main, first, second, body = index.graphs
    assert all(indexed.is_reachable for indexed in (main, first, second, body))
    nested.graph.remove(nested.graph.node(2))
    assert [indexed.is_reachable for indexed in (main, first, second, body)] == [True, False, False, True]
