"""The editor: names, constants, replacing, removing."""

import numpy as np
import pytest

from graphpress.ir import Editor, constant, graphs, load, save, verify
from graphpress.ir.encoding import (
    AffineEncoding,
    encoding_of,
    invalidation_of,
    output_encoding,
    override_output,
    override_use,
    read_encoding,
    set_encoding,
)

CHAIN = "(float[2,3] x) => (float[2,3] y) { a = Relu (x) b = Identity (a) y = Add (b, w) }"
BRANCH = """(bool c, float[3] x) => (float[3] y) {
    h = Relu (x)
    y = If (c) <then_branch = t () => (float[3] p) { p = Mul (h, w) },
                else_branch = e () => (float[3] q) { q = Neg (h) }>
}"""
FUNCTION = """<domain: "local", opset_import: ["": 17]> f (a) => (b) { c = Relu (a) b = Neg (c) }"""
U8 = AffineEncoding("uint8", (0.5,), (3,))
S8 = AffineEncoding("int8", (0.25,), (0,))
W = np.arange(3, dtype=np.float32)


def names(model):
    listed = []
    for graph in graphs(model):
        listed += [value.name for value in graph.inputs]
        listed += getattr(graph, "initializers", {})
        listed += [output.name for node in graph for output in node.outputs]
    return listed


def test_fresh_names_are_unique_also_against_subgraphs_and_functions(build):
    edit = Editor(build(BRANCH, w=W))
    fresh = [edit.fresh_name(stem) for stem in ("p", "q", "h", "x", "w", "new", "new", "p")]
    assert len(set(fresh)) == len(fresh)
    assert not set(fresh) & set(names(edit.model))
    assert fresh[5] == "new"


def test_many_fresh_names_of_one_stem_take_linear_time(build):
    edit = Editor(build(CHAIN, w=W))
    assert len({edit.fresh_name("n") for _ in range(50_000)}) == 50_000


def test_a_constant_in_a_graph_a_subgraph_and_a_function(build, node_of, run):
    model = build("(float[3] x) => (float[3] y) { y = local.f (x) }", functions=FUNCTION)
    edit = Editor(model)
    for node in [node_of(model, "y"), node_of(model, "c")]:
        value = edit.add_constant_for(node, W, "k")
        added = edit.add_node("Add", [node.inputs[0], value], before=node)
        node.replace_input_with(0, added.outputs[0])
    verify(model)
    assert len(set(names(model))) == len(names(model))
    np.testing.assert_array_equal(run(model, {"x": W})["y"], -3 * W)


def test_set_constant_changes_contents_shape_and_type_together(build, value_of):
    model = build(CHAIN, w=W)
    Editor(model).set_constant(value_of(model, "w"), np.ones((2, 1), np.float16))
    value = value_of(model, "w")
    assert (tuple(value.shape), value.dtype.name, value.const_value.dtype.name) == ((2, 1), "FLOAT16", "FLOAT16")
    verify(model)


def test_set_constant_invalidates_every_encoding_with_the_reason(build, value_of, node_of):
    model = build(CHAIN, w=W)
    weight, reader = value_of(model, "w"), node_of(model, "y")
    set_encoding(weight, S8)
    override_use(reader, 1, U8)
    Editor(model).set_constant(weight, W + 1)
    assert encoding_of(weight) is None
    assert read_encoding(reader, 1) is None
    assert invalidation_of(weight) == "its contents were replaced"
    set_encoding(weight, S8)
    assert invalidation_of(weight) is None


def test_own_constant_leaves_other_readers_alone(build, node_of, run):
    model = build("(float[3] x) => (float[3] y, float[3] z) { y = Add (x, w) z = Mul (x, w) }", w=W)
    node = node_of(model, "y")
    set_encoding(node.inputs[1], S8)
    new = Editor(model).own_constant(node, 1, W + 5)
    assert invalidation_of(new) is not None
    assert encoding_of(node_of(model, "z").inputs[1]) == S8
    outputs = run(model, {"x": W})
    np.testing.assert_array_equal(outputs["y"], W + W + 5)
    np.testing.assert_array_equal(outputs["z"], W * W)
    verify(model)


def test_own_constant_replaces_in_place_where_it_has_one_reader(build, node_of):
    model = build(CHAIN, w=W)
    node = node_of(model, "y")
    old = node.inputs[1]
    assert Editor(model).own_constant(node, 1, W + 5) is old
    assert list(model.graph.initializers) == ["w"]


def test_own_constant_drops_the_old_constant_node_and_can_add_an_input(build, node_of):
    model = build("(float[3] x) => (float[3] y) { k = Constant <value_floats: floats = [1.0]> () y = Clip (x, k) }")
    node = node_of(model, "y")
    edit = Editor(model)
    edit.own_constant(node, 1, np.float32(0))
    edit.own_constant(node, 2, np.float32(6))
    assert [node.op_type for node in model.graph] == ["Clip"]
    assert [float(constant(value)) for value in node.inputs[1:]] == [0, 6]
    verify(model)


def test_own_constant_of_a_constant_that_is_a_graph_output_makes_a_copy(build, node_of):
    model = build("(float[3] x) => (float[3] y, float[3] w) { y = Add (x, w) }", w=W)
    Editor(model).own_constant(node_of(model, "y"), 1, W + 1)
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), W)


def test_replace_keeps_the_public_name_metadata_and_type(build, node_of):
    model = build("(float[2,3] x) => (float[N,3] y) { a = Relu (x) y = Identity (a) b = Neg (a) z = custom.Op (b) }")
    old = model.graph.outputs[0]
    old.doc_string = "the logits"
    old.metadata_props["user"] = "text"
    edit = Editor(model)
    edit.replace(old, node_of(model, "a").outputs[0])
    edit.remove(old.producer())
    output = model.graph.outputs[0]
    assert (output.name, output.producer().op_type, output.doc_string) == ("y", "Relu", "the logits")
    assert output.metadata_props["user"] == "text"
    assert str(output.shape[0]) == "N"
    verify(model)


def test_replace_where_one_value_is_an_output_twice(build, node_of, tmp_path):
    model = build("(float[3] x) => (float[3] y, float[3] y) { a = Relu (x) y = Identity (a) }")
    assert model.graph.outputs[0] is model.graph.outputs[1]
    edit = Editor(model)
    identity = node_of(model, "y")
    edit.replace(identity.outputs[0], identity.inputs[0])
    edit.remove(identity)
    verify(model)
    save(model, tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    assert [(value.name, value.producer().op_type) for value in again.graph.outputs] == [("y", "Relu"), ("y", "Relu")]


def test_replace_refuses_what_would_change_a_public_name(build, node_of):
    model = build("(float[3] x) => (float[3] y, float[3] z) { y = Identity (x) z = Relu (x) v = Identity (z) }")
    edit = Editor(model)
    y, z = model.graph.outputs
    assert not edit.can_replace(y, model.graph.inputs[0])
    assert not edit.can_replace(y, z)
    with pytest.raises(ValueError, match="cannot replace the graph output 'y'"):
        edit.replace(y, z)
    assert edit.can_replace(node_of(model, "v").outputs[0], z)


def test_replace_inside_a_subgraph_knows_which_graph_owns_the_output(build, node_of):
    model = build(
        """(bool c, float[3] x) => (float[3] y) {
        h = Relu (x)
        y = If (c) <then_branch = t () => (float[3] p) { i = Neg (h) p = Identity (i) },
                    else_branch = e () => (float[3] q) { q = Identity (h) }>
    }"""
    )
    edit = Editor(model)
    p, q = node_of(model, "p"), node_of(model, "q")
    assert not edit.can_replace(q.outputs[0], q.inputs[0])
    edit.replace(p.outputs[0], p.inputs[0])
    edit.remove(p)
    verify(model)
    assert node_of(model, "p").op_type == "Neg"


def test_replace_hands_over_the_encoding(build, node_of):
    model = build(CHAIN, w=W)
    a, b, reader = node_of(model, "a").outputs[0], node_of(model, "b").outputs[0], node_of(model, "y")
    set_encoding(b, U8)
    Editor(model).replace(b, a)
    assert read_encoding(reader, 0) == U8
    assert read_encoding(node_of(model, "b"), 0) is None


def test_replace_keeps_what_other_readers_read(build, node_of):
    model = build("(float[3] x) => (float[3] y, float[3] z) { a = Relu (x) b = Identity (a) y = Neg (b) z = Neg (a) }")
    a, b = node_of(model, "a").outputs[0], node_of(model, "b").outputs[0]
    set_encoding(a, S8)
    set_encoding(b, U8)
    Editor(model).replace(b, a)
    assert read_encoding(node_of(model, "y"), 0) == U8
    assert read_encoding(node_of(model, "z"), 0) == S8


def test_replace_hands_over_the_encoding_of_a_graph_output(build, node_of):
    model = build("(float[3] x) => (float[3] y) { a = Relu (x) y = Identity (a) }")
    a, y = node_of(model, "a").outputs[0], model.graph.outputs[0]
    set_encoding(y, U8)
    override_output(y, "float")
    Editor(model).replace(y, a)
    assert output_encoding(a) is None
    override_output(a, None)
    assert output_encoding(a) == U8


def test_remove_drops_the_constants_that_nobody_else_reads(build, node_of):
    model = build("(float[3] x) => (float[3] y) { a = Add (x, v) b = Mul (a, w) y = Mul (x, w) }", v=W, w=W)
    Editor(model).remove(node_of(model, "b"), node_of(model, "a"))
    assert list(model.graph.initializers) == ["w"]
    verify(model)


def test_attributes_from_python_values(build, node_of):
    model = build("(float[3] x) => (float[3] y) { y = LeakyRelu <alpha: float = 0.5> (x) }")
    node = node_of(model, "y")
    Editor(model).set_attributes(node, alpha=None, names=["a"], size=3)
    assert node.attributes["names"].as_strings() == ("a",)
    assert node.attributes["size"].as_int() == 3
    assert "alpha" not in node.attributes
