"""Three-way merge: theirs where they changed something, ours everywhere else."""

import onnx
import onnx.parser
import pytest
from onnx import helper

from graphpress.graphsurgeon.merge import merge

TEXT = """<ir_version: 10, opset_import: ["": 18]> g (float[N] x) => (float[N] y) {
    h = Relu (x) k = LeakyRelu <alpha = 0.5> (h) y = Add (k, x)
}"""


def parsed() -> onnx.ModelProto:
    proto = onnx.parser.parse_model(TEXT)
    for node, name in zip(proto.graph.node, "abc", strict=True):
        node.name = name
    return proto


def blind(proto: onnx.ModelProto) -> onnx.ModelProto:
    """What a tool that has no eye for words makes of it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.ClearField("doc_string")
    for node in copy.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    return copy


@pytest.fixture
def ours() -> onnx.ModelProto:
    proto = parsed()
    proto.doc_string = "a model"
    for node in proto.graph.node:
        node.doc_string = f"node {node.name}"
        node.metadata_props.add(key="k", value=node.name)
    return proto


def names(proto: onnx.ModelProto) -> dict[str, str]:
    return {node.name: node.doc_string for node in proto.graph.node}


def test_nothing_changed(ours):
    assert merge(ours, blind(ours), blind(ours)) == ours


def test_a_tool_that_sees_everything_has_the_last_word(ours):
    theirs = parsed()
    theirs.doc_string = "another"
    del theirs.graph.node[1]
    assert merge(ours, ours, theirs) == theirs


def test_an_attribute_that_they_changed_leaves_the_rest_of_the_node(ours):
    theirs = blind(ours)
    theirs.graph.node[1].attribute[0].f = 0.25
    merged = merge(ours, blind(ours), theirs)
    assert merged.graph.node[1].attribute[0].f == 0.25
    assert names(merged) == names(ours)
    assert merged.doc_string == "a model"


def test_what_they_removed_stays_away_and_what_they_added_is_there(ours):
    theirs = blind(ours)
    del theirs.graph.node[0]
    theirs.graph.node.insert(0, helper.make_node("Tanh", ["x"], ["h"], "t"))
    assert names(merge(ours, blind(ours), theirs)) == {"t": "", "b": "node b", "c": "node c"}


def test_an_attribute_that_they_removed_stays_away(ours):
    theirs = blind(ours)
    del theirs.graph.node[1].attribute[:]
    merged = merge(ours, blind(ours), theirs)
    assert not merged.graph.node[1].attribute
    assert names(merged) == names(ours)


def test_another_operator_under_an_old_name_is_theirs_alone(ours):
    theirs = blind(ours)
    theirs.graph.node[1].op_type = "Elu"
    assert names(merge(ours, blind(ours), theirs)) == {"a": "node a", "b": "", "c": "node c"}


def test_nodes_of_one_name_are_told_apart_by_what_they_compute(ours):
    for node in ours.graph.node:
        node.name = "same"
    theirs = blind(ours)
    theirs.graph.node[1].attribute[0].f = 0.25
    merged = merge(ours, blind(ours), theirs)
    assert [node.doc_string for node in merged.graph.node] == ["node a", "node b", "node c"]


def test_a_type_that_they_replaced_is_theirs():
    ours, theirs = parsed(), parsed()
    theirs.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, ["N"])))
    assert merge(ours, parsed(), theirs) == theirs
