"""Files that hold what no model may: one error that says what and where, whatever the part that is wrong."""

import base64
import json

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from graphpress.errors import ModelError, ResourceError
from graphpress.ir import clone, from_proto, load, save, serialize
from graphpress.ir.encoding.annotations import INVALIDATED_KEY, OUTPUT_KEY
from graphpress.ir.encoding.requests import COMPUTE_KEY, FLOAT_TYPE_KEY
from graphpress.ir.encoding.text import CODES_KEY, ENCODING_KEY, STORED_KEY, USE_KEY, VERSION_1
from graphpress.ir.files import importing
from graphpress.ir.import_fixups import TYPE_KEY
from graphpress.ir.sparsity import SPARSITY_KEY
from graphpress.manager.prepare import prepare

GRAPH = "g (float[N,4] x) => (float[N,3] y) { h = MatMul (x, w) r = Relu (h) y = Identity (r) }"
CONTROL = """g (float[4] x, bool flag) => (float[4] y) {
    y = If (flag) <
        then_branch = t () => (float[4] a) { a = Neg (x) }, else_branch = e () => (float[4] b) { b = Abs (x) }
    >
}"""
FUNCTION = """<ir_version: 9, opset_import: ["": 17, "own": 1]>
g (float[4] x) => (float[4] y) { y = own.f (x) }
<domain: "own", opset_import: ["": 17]> f (a) => (b) { b = Neg (a) }"""


def proto(text=GRAPH):
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> {text}')
    if text == GRAPH:
        weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return model


def refused(model):
    """The error with which the model is refused: by ``load``, or at the latest when it is made ready for passes."""
    with pytest.raises(ModelError) as raised, importing("m.onnx"):
        prepare(clone(from_proto(model, where="m.onnx")), {})
    assert raised.value.where.startswith("m.onnx")
    assert "\n" not in raised.value.what
    assert raised.value.fix
    return raised.value


# -- annotations --------------------------------------------------------------------------------------------

TEXTS = (
    "1", "null", "", "{}", "[]", '"x"', "NaN", "{", "1e999", "\x00\x1b[2J", 5000 * "9", 100_000 * "[",
    50_000 * '{"kind":', '{"kind":"other"}', '{"kind":[]}', '{"kind":"affine","dtype":"int8","axis":0,"block":2}',
    '{"kind":"affine","dtype":"int8","scale":"nowhere"}', '{"kind":"affine","dtype":"int8x"}',
    '{"kind":"affine","dtype":"int8","scale":"w","axis":99999999999999999999}',
    '{"kind":"quantized","dtype":"int8","scale":null,"zero_point":[[[]]]}',
    '{"kind":"quantized","dtype":"int8","scale":' + 900 * "[" + 900 * "]" + ',"zero_point":0}',
)  # fmt: skip
"""Texts that no annotation is."""
VALUE_KEYS = [
    ENCODING_KEY, *(old for old, new in VERSION_1.items() if new == ENCODING_KEY), OUTPUT_KEY, SPARSITY_KEY, CODES_KEY,
    "graphpress.encoding.v9", "graphpress.",
]  # fmt: skip
NODE_KEYS = [
    f"{USE_KEY}0", *(f"{old}0" for old, new in VERSION_1.items() if new == USE_KEY), f"{USE_KEY}x",
    f"{USE_KEY}999999999", STORED_KEY, "graphpress.other",
]  # fmt: skip


@pytest.mark.parametrize("key", VALUE_KEYS)
@pytest.mark.parametrize("value", ["x", "w", "h", "y"])
def test_an_annotation_of_a_value_that_means_nothing(value, key):
    for text in TEXTS:
        model = proto()
        infos = {info.name: info for info in (*model.graph.input, *model.graph.output)}
        info = infos.get(value) or model.graph.value_info.add(name=value)
        info.metadata_props.add(key=key, value=text)
        refused(model)


@pytest.mark.parametrize("key", NODE_KEYS)
def test_an_annotation_of_a_node_that_means_nothing(key):
    for text in TEXTS:
        model = proto()
        model.graph.node[0].metadata_props.add(key=key, value=text)
        refused(model)


@pytest.mark.parametrize("key", [COMPUTE_KEY, FLOAT_TYPE_KEY, INVALIDATED_KEY])
def test_words_that_mean_nothing_are_refused_or_change_nothing(key):
    for text in TEXTS:
        model = proto()
        model.graph.node[0].metadata_props.add(key=key, value=text)
        model.graph.value_info.add(name="h").metadata_props.add(key=key, value=text)
        try:
            imported = clone(from_proto(model, where="m.onnx"))
        except ModelError:
            continue
        prepare(imported, {})
        serialize(imported)


@pytest.mark.parametrize("key", [ENCODING_KEY, STORED_KEY, "graphpress.other"])
def test_elsewhere_they_are_somebodys_text(key):
    for text in TEXTS:
        model = proto()
        for owner in (model, model.graph, model.graph.initializer[0]):
            owner.metadata_props.add(key=key, value=text)
        serialize(from_proto(model))


@pytest.mark.parametrize("node", [0, 1])
def test_a_node_without_operands_decodes_nothing(node):
    model = proto()
    model.opset_import.add(domain="own", version=1)
    model.graph.node.add(op_type="Other", domain="own", output=["other"] * node)
    model.graph.node[-1].metadata_props.add(key=STORED_KEY, value=json.dumps({"kind": "cast", "dtype": "float16"}))
    refused(model)


def test_a_type_that_was_set_aside_is_read_or_refused():
    model = proto()
    model.graph.value_info.add(name="h").metadata_props.add(key=TYPE_KEY, value="no base64")
    assert TYPE_KEY in refused(model).what
    model = proto()
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 3])
    text = base64.b64encode(kind.SerializeToString()).decode()
    model.graph.value_info.add(name="h").metadata_props.add(key=TYPE_KEY, value=text)
    (info,) = onnx.load_from_string(serialize(from_proto(model))).graph.value_info
    assert info.type == kind
    assert not info.metadata_props


# -- types and tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 99, -1])
@pytest.mark.parametrize("place", ["input", "output", "value_info"])
def test_an_element_type_that_nobody_knows(place, number):
    model = proto()
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 3]))
    getattr(model.graph, place)[0].type.tensor_type.elem_type = number
    error = refused(model)
    assert f"element type {number}" in error.what
    assert getattr(model.graph, place)[0].name in error.where


@pytest.mark.parametrize("kind", ["sequence_type", "optional_type"])
def test_a_sequence_of_nothing(kind):
    model = proto()
    getattr(model.graph.value_info.add(name="h").type, kind).SetInParent()
    refused(model)


@pytest.mark.parametrize("number", [0, 99, -1, 2**31 - 1])
@pytest.mark.parametrize("place", ["initializer", "attribute", "sparse"])
def test_a_tensor_of_an_element_type_that_nobody_knows(place, number):
    model, tensor = tensor_in(place)
    tensor.data_type = number
    assert str(number) in refused(model).what


@pytest.mark.parametrize("place", ["initializer", "attribute", "sparse"])
def test_a_tensor_in_segments(place):
    model, tensor = tensor_in(place)
    tensor.segment.begin, tensor.segment.end = 0, 1
    assert "segments" in refused(model).what


@pytest.mark.parametrize("place", ["initializer", "attribute", "sparse"])
@pytest.mark.parametrize("dims", [[-1], [2**62], [2**62, 2**62], [0]])
def test_a_tensor_whose_contents_do_not_fill_it(place, dims):
    model, tensor = tensor_in(place)
    tensor.dims[:] = dims
    refused(model)


def tensor_in(place):
    """A model, and one of its tensors in this place."""
    model = proto()
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0])
    if place == "initializer":
        model.graph.initializer.append(tensor)
        return model, model.graph.initializer[-1]
    if place == "attribute":
        model.graph.node.append(helper.make_node("Constant", [], ["k"], value=tensor))
        return model, model.graph.node[-1].attribute[0].t
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [0, 1])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [4]))
    return model, model.graph.sparse_initializer[0].values


def test_a_negative_dimension_is_an_unknown_one():
    model = proto()
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [-1, 3]))
    (info,) = onnx.load_from_string(serialize(from_proto(model))).graph.value_info
    first, second = info.type.tensor_type.shape.dim
    assert not first.HasField("dim_value")
    assert second.dim_value == 3


# -- nodes --------------------------------------------------------------------------------------------------


def axis(kind, **fields):
    return AttributeProto(name="axis", type=kind, **fields)


NODES = {
    "attribute type": (helper.make_node("Softmax", ["x"], ["z"], axis="1"), "of type STRING, not INT"),
    "attribute without its value": (("Softmax", axis(AttributeProto.INT)), "no value of its type"),
    "attribute of another field": (("Softmax", axis(AttributeProto.INT, f=1.0)), "no value of its type"),
    "attribute of graphs": (("Softmax", axis(AttributeProto.GRAPHS)), "of type GRAPHS, not INT"),
    "attribute twice": (("Softmax", axis(AttributeProto.INT, i=0), axis(AttributeProto.INT, i=1)), "two attributes"),
    "attribute of a caller": (("Softmax", axis(AttributeProto.INT, ref_attr_name="a")), "refers to that of a function"),
    "null graph": (("Softmax", AttributeProto(name="body", type=AttributeProto.GRAPH)), "no value of its type"),
    "missing attribute": (helper.make_node("Cast", ["x"], ["z"]), "no attribute 'to'"),
    "missing input": (helper.make_node("MatMul", ["x"], ["z"]), "1 inputs, and its operator 2 to 2"),
    "empty input": (helper.make_node("MatMul", ["", "x"], ["z"]), "left out"),
    "no input": (helper.make_node("Relu", [], ["z"]), "0 inputs"),
    "many outputs": (helper.make_node("Relu", ["x"], ["z", "zz"]), "2 outputs"),
    "no output": (helper.make_node("Relu", ["x"], []), "0 outputs"),
    "alias": (helper.make_node("Relu", [], ["z"], domain="ai.onnx"), "0 inputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", NODES)
def test_a_node_that_breaks_the_schema_of_its_operator(case):
    node, says = NODES[case]
    if isinstance(node, tuple):
        operator, *attributes = node
        node = helper.make_node(operator, ["x"], ["z"])
        node.attribute.extend(attributes)
    model = proto()
    node.name = "spoiled"
    model.graph.node.append(node)
    error = refused(model)
    assert says in error.what
    assert "spoiled" in error.where


def test_the_nodes_within_are_checked_too():
    model = proto(CONTROL)
    model.graph.node[0].attribute[1].g.node[0].input.append("x")
    assert "2 inputs" in refused(model).what


@pytest.mark.parametrize("fields", [{"ref_attr_name": "a"}, {}])
def test_a_graph_that_is_not_there(fields):
    model = proto(CONTROL)
    attribute = model.graph.node[0].attribute[0]
    name = attribute.name
    attribute.Clear()
    attribute.MergeFrom(AttributeProto(name=name, type=AttributeProto.GRAPH, **fields))
    refused(model)


def test_what_a_function_may_and_may_not_hold():
    model = onnx.parser.parse_model(FUNCTION)
    from_proto(onnx.parser.parse_model(FUNCTION))
    body = model.functions[0].node[0]
    body.attribute.append(AttributeProto(name="g", type=AttributeProto.GRAPH, ref_attr_name="g"))
    assert "graph of the function's caller" in refused(model).what
    model = onnx.parser.parse_model(FUNCTION)
    model.functions[0].attribute_proto.append(helper.make_attribute("g", proto(CONTROL).graph))
    assert "is no number and no text" in refused(model).what
    model = onnx.parser.parse_model(FUNCTION)
    model.functions[0].output[0] = "nowhere"
    assert "'nowhere' is computed by nothing" in refused(model).what


def test_what_no_schema_is_known_for_is_left_to_the_runtime():
    model = proto()
    model.opset_import.add(domain="own", version=1)
    model.graph.node.append(helper.make_node("Other", [], ["z"], domain="own", axis="1"))
    model.graph.node.append(helper.make_node("NewerThanThis", [], ["zz"], axis="1"))
    from_proto(model)


@pytest.mark.parametrize(
    ("domain", "version"), [("", 0), ("", -1), ("", 2**31), ("", -(2**63)), ("own", -1), ("own", 2**40)]
)
def test_a_version_of_an_operator_set_that_there_cannot_be(domain, version):
    model = proto()
    if domain:
        model.opset_import.add(domain=domain)
    model.opset_import[-1].version = version
    assert f"version {version}" in refused(model).what


@pytest.mark.parametrize("digits", ["9" * 5000, "-1", "0x10", "1e3", "\u0661"])
@pytest.mark.parametrize("key", ["offset", "length"])
def test_a_place_of_external_data_that_is_none(tmp_path, key, digits):
    model = proto()
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "w.bin")
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].external_data.add(key=key, value=digits)
    (tmp_path / "w.bin").write_bytes(bytes(48))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError):
        load(tmp_path / "m.onnx")


# -- the last net -------------------------------------------------------------------------------------------


def test_whatever_else_stops_the_import_is_the_models(caplog):
    with pytest.raises(ModelError, match=r"malformed model \(division by zero\)") as raised, importing("m.onnx"):
        raise ZeroDivisionError("division by zero")
    assert raised.value.where == "m.onnx"


def test_but_a_fault_of_the_machine_is_not():
    with pytest.raises(ResourceError), importing("m.onnx"):
        raise MemoryError


def test_an_import_leaves_a_sound_model_as_it_was(tmp_path):
    save(from_proto(proto()), tmp_path / "m.onnx")
    assert [node.op_type for node in load(tmp_path / "m.onnx").graph] == ["MatMul", "Relu", "Identity"]
