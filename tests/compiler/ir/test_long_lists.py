"""Long lists in attributes: kept as the message holds them, seen and written as any other."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpress.errors import ModelError
from graphpress.ir import clone, from_proto, graphs, load, save, to_proto
from graphpress.ir.light import to_light_proto
from graphpress.ir.long_lists import LONG, StoredList
from graphpress.ir.printer import print_model
from graphpress.ir.wire import MOST_LEVELS, Span, _Rewriter

MANY = LONG + 1
LISTS = {
    "ints": list(range(-5, MANY - 5)),
    "floats": [0.5 * index for index in range(MANY)],
    "strings": [f"ä{index}" for index in range(MANY)],
    "few": [3, 1, 2],
}


def ensemble(inner: bool = False) -> onnx.ModelProto:
    """A node with long lists, in the main graph or in the branch of another."""
    node = helper.make_node("Trees", ["x"], ["t"], domain="acme", name="trees", **LISTS)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xty"]
    nodes = [node, helper.make_node("Neg", ["t"], ["y"])]
    inputs = [values[0]]
    if inner:
        branches = {
            f"{name}_branch": helper.make_graph(nodes_of_branch, name, [], [values[1]])
            for name, nodes_of_branch in (("then", [node]), ("else", [helper.make_node("Abs", ["x"], ["t"])]))
        }
        nodes = [helper.make_node("If", ["go"], ["y"], **branches)]
        inputs.append(helper.make_tensor_value_info("go", TensorProto.BOOL, []))
    graph = helper.make_graph(nodes, "g", inputs, values[2:])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def trees_of(model):
    (node,) = (node for graph in graphs(model) for node in graph if node.op_type == "Trees")
    return node


@pytest.mark.parametrize("inner", [False, True])
def test_they_are_seen_and_written_as_any_other(inner):
    before = ensemble(inner)
    model = from_proto(ensemble(inner))
    attributes = trees_of(clone(model)).attributes
    assert {name: list(attributes[name].value) for name in LISTS} == LISTS
    assert {name for name in LISTS if isinstance(attributes[name], StoredList)} == LISTS.keys() - {"few"}
    after = to_proto(model)
    for now, then in zip(after.graph.node, before.graph.node, strict=True):
        assert sorted(map(str, now.attribute)) == sorted(map(str, then.attribute))


def test_they_survive_a_file(tmp_path):
    save(from_proto(ensemble()), tmp_path / "model.onnx")
    attributes = trees_of(load(tmp_path / "model.onnx")).attributes
    assert attributes["strings"].as_strings() == tuple(LISTS["strings"])


def test_what_is_no_text_is_refused():
    proto = ensemble()
    broken = next(attribute for attribute in proto.graph.node[0].attribute if attribute.name == "strings")
    broken.strings[7] = b"\xff"
    with pytest.raises(ModelError):
        from_proto(proto)


def test_shapes_are_inferred_without_them():
    light = to_light_proto(from_proto(ensemble()), 8)
    assert [attribute.name for attribute in light.graph.node[0].attribute] == ["few"]


def test_the_printer_gives_their_length():
    assert f"ints[{MANY}]" in print_model(from_proto(ensemble()))


def test_the_search_for_weights_looks_at_no_element():
    proto, seen = ensemble(), []
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(MANY, np.float32), "w"))
    data = proto.SerializeToString()
    _Rewriter(data, 0, seen.append, fields_left=MANY // 8).message(Span(0, len(data)), "model", MOST_LEVELS)
    assert [span.size for span in seen] == [4 * MANY]
