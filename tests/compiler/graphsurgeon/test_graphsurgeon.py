"""Models as graphs of onnx-graphsurgeon and back: nothing is lost that the surgery did not take."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.backend.test
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpress.errors import ModelError
from graphpress.graphsurgeon.convert import from_graphsurgeon, lost_annotations, to_graphsurgeon
from graphpress.ir import (
    ExternalTensor,
    Model,
    constant,
    from_proto,
    graphs,
    load,
    save,
    serialize,
    tensors,
    to_proto,
    verify,
)
from graphpress.ir.encoding import (
    AffineEncoding,
    compute_request,
    encoding_of,
    invalidation_of,
    override_use,
    read_encoding,
    request_compute,
    set_encoding,
)
from graphpress.models import build, names
from graphpress.runtime import Session

gs = pytest.importorskip("onnx_graphsurgeon")

SHIPPED = Path(onnx.backend.test.__file__).parent / "data"
INT8 = AffineEncoding("int8", (0.5,), (0,))

CHAIN = "(float[N,4] x) => (float[N,4] y) { h = Relu (x) k = Add (h, w) y = Mul (k, v) }"
BRANCHES = """(bool c, float[2] x) => (float[2] y) {
    s = Relu (x)
    y = If (c) <then_branch = a () => (float[2] p) { p = Mul (s, s) },
                else_branch = b () => (float[2] q) <float[2] k = {1.0, 2.0}> { q = Add (s, k) }>
}"""
OVERLOADS = """
<domain: "local", opset_import: ["": 18]>
scale <alpha: float = 2.0> (x) => (y) { c = Constant <value_float: float = @alpha> () y = Mul (x, c) }
<domain: "local", overload: "wide", opset_import: ["": 18]>
scale (x) => (y) { y = Add (x, x) }
"""


def proto_of(text: str, functions: str = "", **weights: np.ndarray) -> onnx.ModelProto:
    imports = '"": 18, "custom": 3, "local": 1'
    proto = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g {text}\n{functions}")
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items())
    for index, node in enumerate(proto.graph.node):
        node.name = f"n{index}"
    return proto


def chain() -> onnx.ModelProto:
    return proto_of(CHAIN, w=np.arange(4, dtype=np.float32), v=np.float32([2, 3, 4, 5]))


def there_and_back(model: Model, surgery: Callable[[gs.Graph], gs.Graph | None] = lambda graph: None) -> Model:
    graph = to_graphsurgeon(model)
    result = from_graphsurgeon(surgery(graph) or graph, like=model)
    verify(result)
    return result


def values_of(model: Model) -> dict:
    return {
        value.name: value
        for graph in graphs(model)
        for value in (
            *graph.inputs,
            *getattr(graph, "initializers", {}).values(),
            *(o for n in graph for o in n.outputs),
        )
    }


def node_of(model: Model, name: str):
    return next(node for graph in graphs(model) for node in graph if node.name == name)


# -- nothing is lost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", names())
def test_families_come_back_bit_for_bit(family):
    model = build(family)
    back = there_and_back(model)
    assert serialize(back) == serialize(model)
    assert all(after is before for after, before in zip(tensors(back), tensors(model), strict=True)), (
        "a tensor was copied"
    )


@pytest.mark.skipif("GRAPHPRESS_DATA" not in os.environ, reason="GRAPHPRESS_DATA names the folder of real models")
def test_real_models_come_back_bit_for_bit():
    files = sorted(Path(os.environ["GRAPHPRESS_DATA"]).glob("*.onnx"))
    assert files
    for file in files:
        model = load(file)
        assert serialize(there_and_back(model)) == serialize(model), file.name


@pytest.mark.parametrize("kind", ["simple", "pytorch-operator"])
def test_shipped_models_come_back_bit_for_bit(kind):
    for folder in sorted((SHIPPED / kind).iterdir()):
        file = folder if folder.suffix == ".onnx" else folder / "model.onnx"
        if file.is_file():
            model = load(file)
            assert serialize(there_and_back(model)) == serialize(model), file


def with_words(proto: onnx.ModelProto) -> None:
    proto.producer_name, proto.domain, proto.model_version, proto.doc_string = "maker", "org.example", 7, "a model"
    graph = proto.graph
    graph.doc_string = graph.node[0].doc_string = graph.input[0].doc_string = graph.initializer[0].doc_string = "words"
    for holder in (proto, graph, graph.node[0], graph.input[0], graph.output[0], graph.initializer[0]):
        holder.metadata_props.add(key="k", value="v")


def with_overloads(proto: onnx.ModelProto) -> None:
    proto.CopyFrom(
        proto_of(
            "(float[N] x) => (float[N] y) { a = local.scale <alpha = 3.0> (x) y = local.scale : wide (a) }", OVERLOADS
        )
    )
    proto.functions[1].metadata_props.add(key="k", value="v")


def with_an_overridable_input(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))


def with_an_unread_constant(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.float32([1]), "unread"))


def with_strange_attributes(proto: onnx.ModelProto) -> None:
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    proto.graph.node.append(
        helper.make_node(
            "Op", ["y"], ["z"], "op", domain="custom", bytes=b"\xff\x00", words=["ä"], kind=kind,
            several=[numpy_helper.from_array(np.float32([1]), "a"), numpy_helper.from_array(np.int8([1]), "b")],
        )
    )  # fmt: skip


def with_types_beyond_tensors(proto: onnx.ModelProto) -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N"])
    for index, kind in enumerate(
        [
            helper.make_optional_type_proto(tensor),
            helper.make_map_type_proto(TensorProto.STRING, tensor),
            onnx.TypeProto(),
        ]
    ):
        proto.graph.node.append(helper.make_node("Op", ["y"], [f"z{index}"], f"op{index}", domain="custom"))
        proto.graph.output.append(helper.make_value_info(f"z{index}", kind))


def with_quantization_annotations(proto: onnx.ModelProto) -> None:
    annotation = proto.graph.quantization_annotation.add(tensor_name="h")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")


def with_strings(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.array(["ä", ""], object), "words"))
    proto.graph.node.append(helper.make_node("Op", ["words"], ["z"], "op", domain="custom"))


def without_node_names(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        node.name = ""
        node.doc_string = node.op_type


@pytest.mark.parametrize(
    "change",
    [
        with_words, with_overloads, with_an_overridable_input, with_an_unread_constant, with_strange_attributes,
        with_types_beyond_tensors, with_quantization_annotations, with_strings, without_node_names,
    ],
)  # fmt: skip
def test_what_graphsurgeon_cannot_hold_comes_back(change):
    proto = chain()
    change(proto)
    model = from_proto(proto)
    assert serialize(there_and_back(model)) == serialize(model)


@pytest.mark.parametrize("change", [with_words, with_overloads, with_strange_attributes, with_quantization_annotations])
def test_it_comes_back_beside_a_change_elsewhere(change):
    proto = chain()
    change(proto)
    model = from_proto(proto)

    def insert(graph):
        x = graph.inputs[0]
        readers = list(x.outputs)
        copied = graph.layer(op="Identity", name="copy", inputs=[x], outputs=[gs.Variable("copied")])[0]
        for reader in readers:
            reader.inputs = [copied if tensor is x else tensor for tensor in reader.inputs]

    back = to_proto(there_and_back(model, insert))
    wanted = to_proto(model)
    wanted.graph.node.insert(0, helper.make_node("Identity", ["x"], ["copied"], "copy"))
    for node in wanted.graph.node[1:]:
        node.input[:] = ["copied" if name == "x" else name for name in node.input]
    assert list(back.graph.node) == list(wanted.graph.node)
    del back.graph.node[:], wanted.graph.node[:]
    assert back == wanted


@pytest.mark.parametrize("dtype", ["int4", "uint4", "float8_e4m3fn", "float8_e5m2", "bfloat16", "float16"])
@pytest.mark.parametrize("touch", ["nothing", "read", "write"])
def test_narrow_types(dtype, touch):
    array = np.array([1, 0, 3], np.float32).astype(np.dtype(dtype) if dtype == "float16" else getattr(ml_dtypes, dtype))
    proto = chain()
    proto.graph.initializer.append(numpy_helper.from_array(array, "narrow"))
    proto.graph.node.append(helper.make_node("Op", ["narrow"], ["z"], "op", domain="custom"))
    model = from_proto(proto)

    def surgery(graph):
        narrow = graph.tensors()["narrow"]
        if touch == "read":
            assert np.array_equal(narrow.values, array)
        elif touch == "write":
            narrow.values = narrow.values[::-1].copy()

    back = there_and_back(model, surgery)
    before, after = model.graph.initializers["narrow"].const_value, back.graph.initializers["narrow"].const_value
    assert (after is before) == (touch != "write")
    wanted = array[::-1] if touch == "write" else array
    assert after.dtype == before.dtype
    assert after.numpy().tobytes() == wanted.tobytes()


def test_external_data_stays_where_it_is(tmp_path):
    weight = np.arange(4000, dtype=np.float32)
    proto = proto_of("(float[4000] x) => (float[4000] y) { h = Add (x, w) y = Mul (h, v) }", w=weight, v=weight + 1)
    onnx.save(proto, tmp_path / "a.onnx", save_as_external_data=True, size_threshold=0, location="a.bin")
    model = load(tmp_path / "a.onnx")

    def surgery(graph):
        double = graph.tensors()["v"]
        double.values = double.values * 2

    back = there_and_back(model, surgery)
    assert back.graph.initializers["w"].const_value is model.graph.initializers["w"].const_value
    assert isinstance(back.graph.initializers["w"].const_value, ExternalTensor)
    save(back, tmp_path / "b.onnx")
    assert np.array_equal(constant(load(tmp_path / "b.onnx").graph.initializers["v"]), (weight + 1) * 2)


def test_memory_does_not_grow_with_the_weights(tmp_path):
    """A quarter of a gigabyte beside the file: none of it is read."""
    script = """
import resource, sys, numpy as np
from graphpress.graphsurgeon.convert import from_graphsurgeon, to_graphsurgeon
from graphpress.ir import load
small, large = (load(path) for path in sys.argv[1:])
from_graphsurgeon(to_graphsurgeon(small), like=small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from_graphsurgeon(to_graphsurgeon(large), like=large)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    for name, size in (("small", 1 << 10), ("large", 1 << 26)):
        proto = proto_of(f"(float[{size}] x) => (float[{size}] y) {{ y = Add (x, w) }}")
        with (tmp_path / f"{name}.bin").open("wb") as file:
            file.truncate(4 * size)
        weight = TensorProto(name="w", data_type=1, dims=[size], data_location=TensorProto.EXTERNAL)
        weight.external_data.add(key="location", value=f"{name}.bin")
        proto.graph.initializer.append(weight)
        (tmp_path / f"{name}.onnx").write_bytes(proto.SerializeToString())
    paths = [str(tmp_path / f"{name}.onnx") for name in ("small", "large")]
    out = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True)
    assert int(out.stdout) < 32 << 10, "kibibytes"


# -- annotations --------------------------------------------------------------------------------------------


def annotated() -> Model:
    model = from_proto(chain())
    for name in ("h", "w", "k"):
        set_encoding(values_of(model)[name], INT8)
    override_use(node_of(model, "n2"), 0, "float")
    request_compute(node_of(model, "n1"), "int8")
    return model


def test_annotations_survive_a_surgery_elsewhere():
    model = annotated()

    def surgery(graph):
        graph.tensors()["v"].values = np.float32([1, 1, 1, 1])

    back = there_and_back(model, surgery)
    assert [encoding_of(values_of(back)[name]) for name in ("h", "w", "k")] == [INT8] * 3
    assert read_encoding(node_of(back, "n2"), 0) is None
    assert compute_request(node_of(back, "n1")) == "int8"
    assert lost_annotations(model, back) == []


def test_a_constant_with_new_contents_loses_its_encoding():
    model = annotated()

    def surgery(graph):
        graph.tensors()["w"].values *= 2

    back = there_and_back(model, surgery)
    assert encoding_of(values_of(back)["w"]) is None
    assert invalidation_of(values_of(back)["w"]) == "its contents were replaced"
    assert encoding_of(values_of(model)["w"]) == INT8, "the model that went in was changed"
    assert lost_annotations(model, back) == [
        "annotations were lost with values that were removed, renamed or changed: w"
    ]


def test_what_was_renamed_loses_its_encoding_and_this_is_said():
    model = annotated()

    def surgery(graph):
        graph.tensors()["h"].name = "hidden"
        graph.nodes[1].name = "sum"

    back = there_and_back(model, surgery)
    assert encoding_of(values_of(back)["hidden"]) is None
    assert lost_annotations(model, back) == [
        "annotations were lost with values that were removed, renamed or changed: h",
        "annotations were lost with nodes that were removed, renamed or changed: n1",
    ]


def test_another_operator_under_the_same_name_was_asked_for_nothing():
    model = annotated()

    def surgery(graph):
        graph.nodes[1].op = "Sub"

    back = there_and_back(model, surgery)
    assert compute_request(node_of(back, "n1")) is None
    assert encoding_of(values_of(back)["k"]) == INT8


def test_the_override_of_a_use_goes_with_what_was_read():
    model = annotated()

    def surgery(graph):
        graph.nodes[2].inputs[0] = graph.tensors()["h"]

    back = there_and_back(model, surgery)
    assert read_encoding(node_of(back, "n2"), 0) == INT8
    assert lost_annotations(model, back) == [
        "annotations were lost with nodes that were removed, renamed or changed: n2"
    ]


def test_annotations_in_subgraphs():
    model = from_proto(proto_of(BRANCHES))
    for name in ("s", "p", "q", "k"):
        set_encoding(values_of(model)[name], INT8)

    def surgery(graph):
        branch = next(node for node in graph.nodes if node.op == "If").attrs["else_branch"]
        branch.tensors()["k"].values = np.float32([5, 6])
        branch.nodes[0].op = "Sub"

    back = there_and_back(model, surgery)
    assert [encoding_of(values_of(back)[name]) for name in ("s", "p", "q", "k")] == [INT8, INT8, INT8, None]
    feed = {"c": np.array(False), "x": np.float32([1, 2])}
    assert Session(back).run(feed)["y"].tolist() == [-4, -4]


def test_constants_of_one_name_in_two_branches():
    text = BRANCHES.replace("{ p = Mul (s, s) }", "<float[2] k = {3.0, 4.0}> { p = Mul (s, k) }")
    model = from_proto(proto_of(text))
    for graph in graphs(model):
        for value in getattr(graph, "initializers", {}).values():
            set_encoding(value, INT8)
    back = there_and_back(
        model,
        lambda graph: graph.nodes.append(gs.Node("Identity", "i", inputs=graph.inputs[1:], outputs=[gs.Variable("i")])),
    )
    kept = [value for graph in graphs(back) for value in getattr(graph, "initializers", {}).values()]
    assert [encoding_of(value) for value in kept] == [INT8, INT8]
    assert [value.const_value.numpy().tolist() for value in kept] == [[3, 4], [1, 2]]


# -- surgeries ----------------------------------------------------------------------------------------------


def test_an_overridable_input_goes_with_its_initializer():
    proto = chain()
    with_an_overridable_input(proto)
    model = from_proto(proto)

    def surgery(graph):
        graph.nodes[1].inputs[1] = gs.Constant("ones", np.ones(4, np.float32))

    back = there_and_back(model, surgery)
    assert [value.name for value in back.graph.inputs] == ["x"]
    assert sorted(back.graph.initializers) == ["ones", "v"]


def test_nodes_out_of_order_are_sorted():
    back = there_and_back(from_proto(chain()), lambda graph: graph.nodes.reverse())
    assert [node.op_type for node in back.graph] == ["Relu", "Add", "Mul"]


def test_a_graph_made_from_nothing():
    x, y = gs.Variable("x", np.float32, ["N", 2]), gs.Variable("y", np.float32, ["N", 2])
    node = gs.Node("Add", "add", inputs=[x, gs.Constant("one", np.ones(2, np.float32))], outputs=[y])
    model = from_graphsurgeon(gs.Graph([node], [x], [y], opset=17))
    assert Session(model).run({"x": np.zeros((1, 2), np.float32)})["y"].tolist() == [[1, 1]]
    assert model.ir_version == helper.find_min_ir_version_for([helper.make_opsetid("", 17)])


def test_a_plugin_declares_its_domain():
    model = from_proto(chain())

    def surgery(graph):
        outputs = [gs.Variable("kept", np.int32, ["N", 1])]
        graph.layer(op="Filter", name="filter", domain="plugins", inputs=graph.outputs, outputs=outputs, attrs={"a": 1})
        graph.outputs = outputs

    back = there_and_back(model, surgery)
    assert back.opset_imports["plugins"] == 1
    assert [value.name for value in back.graph.outputs] == ["kept"]


def test_folding_of_graphsurgeon_works():
    model = from_proto(
        proto_of(
            "(float[4] x) => (float[4] y) { s = Add (w, v) y = Mul (x, s) }",
            w=np.ones(4, np.float32),
            v=np.ones(4, np.float32),
        )
    )
    back = there_and_back(model, lambda graph: graph.fold_constants().cleanup())
    assert [node.op_type for node in back.graph] == ["Mul"]
    assert Session(back).run({"x": np.ones(4, np.float32)})["y"].tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("surgery", "message"),
    [
        (lambda graph: graph.nodes[1].inputs.__setitem__(0, gs.Variable("nowhere")), "nothing before it computes"),
        (lambda graph: setattr(graph.nodes[0].outputs[0], "name", "k"), "'k'"),
        (lambda graph: graph.nodes[0].attrs.update(thing=object()), "cannot export"),
        (lambda graph: graph.outputs.clear(), "no graph with outputs"),
    ],
)
def test_a_graph_that_is_no_model_is_refused_with_the_reason(surgery, message):
    with pytest.raises(ModelError, match=message):
        there_and_back(from_proto(chain()), surgery)
