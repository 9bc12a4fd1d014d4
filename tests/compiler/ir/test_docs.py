"""Doc strings and exporters' notes go wherever they lie; what applications read, and what is ours, stays."""

import onnx
import pytest
from onnx import helper

from graphpress.ir import load, load_without_docs, to_proto
from graphpress.ir.docs import drop_docs

SECRET = "/home/somebody/model.py"


def note(message, key="pkg.torch.onnx.stack_trace", text=SECRET):
    entry = message.metadata_props.add()
    entry.key, entry.value = key, text


def documented():
    """A model with a subgraph and a function that says where it comes from on every part that can say so."""
    info, floats = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    weight = helper.make_tensor("w", floats, [1], [2.0])
    branch = helper.make_graph(
        [helper.make_node("Mul", ["a", "w"], ["b"])], "g", [], [info("b", floats, [1])], [weight]
    )
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    function = helper.make_function(
        "own", "double", ["x"], ["z"], [helper.make_node("Add", ["x", "x"], ["z"])], [helper.make_opsetid("", 20)]
    )
    nodes = [
        helper.make_node("double", ["x"], ["a"], domain="own"),
        helper.make_node("Constant", [], ["k"], value=helper.make_tensor("t", floats, [1], [1.0])),
        helper.make_node("Cast", ["k"], ["c"], to=onnx.TensorProto.BOOL),
        choice,
    ]
    inputs, outputs = ([info(name, floats, [1])] for name in "xy")
    graph = helper.make_graph(nodes, "main", inputs, outputs, value_info=[info("a", floats, [1])])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10)
    branches = [attribute.g for attribute in model.graph.node[-1].attribute]
    graphs = [model.graph, *branches]
    messages = [model, *model.functions, *model.functions[0].node, *graphs]
    for part in graphs:
        messages += [*part.node, *part.initializer, *part.input, *part.output, *part.value_info]
        messages += [attribute for node in part.node for attribute in node.attribute]
    messages.append(model.graph.node[1].attribute[0].t)
    for message in messages:
        message.doc_string = SECRET
        if hasattr(message, "metadata_props"):
            note(message)
    return model


def test_every_doc_string_goes_and_nothing_else():
    model, bare = documented(), documented()
    before = model.ByteSize()
    dropped = drop_docs(model)
    assert 0 < dropped < before - model.ByteSize()
    assert (
        model.SerializeToString().count(SECRET.encode()) == 5
    )  # notes on the model, input, and outputs, for applications
    assert [node.op_type for node in model.graph.node] == [node.op_type for node in bare.graph.node]
    assert drop_docs(model) == 0


def test_our_own_annotations_stay():
    model = documented()
    note(model.graph.node[0], "graphpress.encoding.v1", "ours")
    note(model.graph.value_info[0], "graphpress.output.v1", "float")
    drop_docs(model)
    assert [entry.value for entry in model.graph.node[0].metadata_props] == ["ours"]
    assert [entry.value for entry in model.graph.value_info[0].metadata_props] == ["float"]


@pytest.mark.parametrize("size", [1, 1 << 19])
def test_a_loaded_model_has_none_and_computes_what_the_file_says(tmp_path, size):
    proto = documented()
    proto.graph.initializer.append(
        helper.make_tensor("large", onnx.TensorProto.FLOAT, [size], bytes(4 * size), raw=True)
    )
    proto.graph.initializer[0].doc_string = SECRET
    onnx.save(proto, tmp_path / "model.onnx")
    model, dropped = load_without_docs(tmp_path / "model.onnx")
    assert dropped
    assert to_proto(load(tmp_path / "model.onnx")).graph.node[0].doc_string == SECRET
    bare = to_proto(model)
    assert drop_docs(bare) == 0
