"""Import and export without passes lose nothing: the message that comes out holds what the one that went in held.

Two messages are compared in a canonical form, which levels what the format leaves open (absent or empty words, order
of metadata and of value infos) and what reading documents as normalized.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import onnx.parser
import pytest
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from graphpress.errors import GraphpressError, ModelError
from graphpress.ir import clone, from_proto, load, save, to_proto
from graphpress.models import build, names
from graphpress.runtime import Session

SHARDS = 8
SHIPPED = Path(onnx.backend.test.__file__).parent / "data"

# -- the canonical form -------------------------------------------------------------------------------------


def canonical(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    if copy.ir_version < 4:
        copy.ir_version = 4
        constants = {tensor.name for tensor in copy.graph.initializer}
        keep(copy.graph.input, lambda info: info.name not in constants)
    _level(copy)
    return copy


def _level(message: Message) -> None:
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                _level(part)
        if field.name == "data_location" and value == TensorProto.DEFAULT:
            message.ClearField(field.name)
        if value == "" or (field.name == "model_version" and value == 0):
            message.ClearField(field.name)
        if field.name in ("metadata_props", "quant_parameter_tensor_names"):
            entries = sorted(value, key=lambda entry: entry.key)
            del value[:]
            value.extend(entries)
    if isinstance(message, onnx.GraphProto):
        _level_graph(message)
    if isinstance(message, onnx.NodeProto):
        while message.output and not message.output[-1]:
            message.output.pop()
    if isinstance(message, onnx.NodeProto | onnx.OperatorSetIdProto) and message.domain in ("", "ai.onnx"):
        message.ClearField("domain")
    if isinstance(message, onnx.OperatorSetIdProto) and not message.HasField("domain"):
        message.domain = ""


def _level_graph(graph: onnx.GraphProto) -> None:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {name for node in graph.node for name in node.output}
    public = {info.name for info in (*graph.input, *graph.output)}
    keep(graph.value_info, lambda info: info.name not in public and (info.name in outputs or info.name in tensors))
    keep(graph.value_info, lambda info: info.name not in tensors or info != described(tensors[info.name]))
    for field in (graph.value_info, graph.quantization_annotation):
        items = sorted(field, key=lambda item: item.name if hasattr(item, "name") else item.tensor_name)
        del field[:]
        field.extend(items)


def described(tensor: TensorProto) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, tensor.data_type, tuple(tensor.dims))


def keep(field: Any, wanted: Any) -> None:
    kept = [item for item in field if wanted(item)]
    del field[:]
    field.extend(kept)


def there_and_back(proto: onnx.ModelProto, where: str = "model", folder: Path | None = None) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return to_proto(clone(from_proto(copy, where=where, folder=folder)))


def difference(before: onnx.ModelProto, after: onnx.ModelProto) -> str:
    """The first lines that differ, or nothing."""
    first, second = canonical(before), canonical(after)
    if first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True):
        return ""
    lines = zip(str(first).splitlines(), str(second).splitlines(), strict=False)
    return next((f"{a.strip()} became {b.strip()}" for a, b in lines if a != b), "one is longer than the other")


# -- the models of the ONNX backend test-suite --------------------------------------------------------------


@cache
def node_cases() -> list[Any]:
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sorted((case for case in collect_testcases(None) if case.model), key=lambda case: case.name)


def shipped_models(kind: str) -> Iterator[tuple[str, onnx.ModelProto]]:
    for folder in sorted((SHIPPED / kind).iterdir()):
        file = folder if folder.suffix == ".onnx" else folder / "model.onnx"
        if file.is_file():
            yield f"{kind}/{folder.name}", onnx.load(file)


def faults(models: Iterator[tuple[str, onnx.ModelProto]]) -> list[str]:
    differences = [(name, difference(model, there_and_back(model, name))) for name, model in models]
    return [f"{name}: {fault}" for name, fault in differences if fault]


@pytest.mark.parametrize("shard", range(SHARDS))
def test_node_cases_come_back_as_they_went_in(shard):
    assert faults((case.name, case.model) for case in node_cases()[shard::SHARDS]) == []


@pytest.mark.parametrize("kind", ["simple", "light", "pytorch-converted", "pytorch-operator"])
def test_shipped_models_come_back_as_they_went_in(kind):
    assert faults(shipped_models(kind)) == []


@pytest.mark.parametrize("family", names())
def test_built_models_come_back_and_compute_the_same_bits(family):
    model = build(family)
    proto = to_proto(model)
    after = from_proto(there_and_back(proto))
    assert difference(proto, to_proto(after)) == ""
    same_bits(model, after)


def same_bits(first: Any, second: Any) -> None:
    sessions = [Session(model, optimization="none") for model in (first, second)]
    random = np.random.default_rng(0)
    feed = {
        spec.name: (random.random([dim if isinstance(dim, int) else 2 for dim in spec.dims]) * 1.5).astype(spec.dtype)
        for spec in sessions[0].inputs
    }
    wanted, got = (session.run(feed) for session in sessions)
    for name, array in wanted.items():
        np.testing.assert_array_equal(got[name], array)


def test_node_cases_compute_the_same_bits():
    """Every eighth, which is enough for bytes that are already equal."""
    compared = 0
    for case in node_cases()[::8]:
        feeds = [inputs for inputs, _ in case.data_sets]
        if not all(isinstance(array, np.ndarray) for feed in feeds for array in feed):
            continue
        try:
            before = Session(
                from_proto(onnx.ModelProto.FromString(case.model.SerializeToString())), optimization="none"
            )
            wanted = [before.run(named(before, feed)) for feed in feeds]
        except GraphpressError:
            continue  # the runtime has no kernel for it
        after = Session(from_proto(there_and_back(case.model)), optimization="none")
        for feed, expected in zip(feeds, wanted, strict=True):
            got = after.run(named(after, feed))
            assert all(bits(got[name]) == bits(value) for name, value in expected.items()), case.name
        compared += 1
    assert compared > 100


def named(session: Session, feed: list[np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip((spec.name for spec in session.inputs), feed, strict=False))


def bits(value: Any) -> Any:
    return value.tobytes() if isinstance(value, np.ndarray) and value.dtype != object else repr(value)


# -- what the suite does not hold ---------------------------------------------------------------------------


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


FUNCTIONS = """
<ir_version: 10, opset_import: ["": 18, "local": 1]>
g (float[N] x) => (float[N] y) {
    a = local.scale <alpha = 3.0> (x)
    b = local.scale : wide (a)
    y = local.scale (b)
}
<domain: "local", opset_import: ["": 18]>
scale <alpha: float = 2.0> (x) => (y) { c = Constant <value_float: float = @alpha> () y = Mul (x, c) }
<domain: "local", overload: "wide", opset_import: ["": 18]>
scale (x) => (y) { y = Add (x, x) }
"""


def small() -> onnx.ModelProto:
    return parsed(
        '<ir_version: 11, opset_import: ["": 18]> g (float[N,4] x) => (float[N,4] y) { h = Relu (x) y = Add (h, w) }'
    )


def with_weight(proto: onnx.ModelProto, array: np.ndarray | None = None) -> onnx.ModelProto:
    proto.graph.initializer.append(
        numpy_helper.from_array(np.arange(4, dtype=np.float32) if array is None else array, "w")
    )
    return proto


def test_functions_with_attributes_and_overloads():
    proto = parsed(FUNCTIONS)
    assert difference(proto, there_and_back(proto)) == ""


def test_function_attributes_without_default_and_value_infos():
    proto = parsed(FUNCTIONS)
    proto.functions[1].attribute.append("beta")
    proto.functions[1].doc_string = "twice"
    proto.functions[1].metadata_props.add(key="k", value="v")
    proto.functions[1].value_info.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"]))
    proto.functions[1].value_info.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"]))
    assert difference(proto, there_and_back(proto)) == ""


def test_a_function_defined_twice_is_refused():
    proto = parsed(FUNCTIONS)
    proto.functions.append(proto.functions[0])
    with pytest.raises(ModelError, match="function local::scale twice"):
        from_proto(proto)


def test_texts_beside_the_graph():
    proto = with_weight(small())
    proto.producer_name, proto.producer_version, proto.domain = "maker", "1.2", "org.example"
    proto.model_version, proto.doc_string = 7, "a model"
    proto.graph.doc_string, proto.graph.node[0].doc_string = "a graph", "a node"
    proto.graph.input[0].doc_string, proto.graph.output[0].doc_string = "an input", "an output"
    proto.graph.initializer[0].doc_string = "a weight"
    for index, holder in enumerate(
        [proto, proto.graph, proto.graph.node[0], proto.graph.input[0], proto.graph.initializer[0]]
    ):
        holder.metadata_props.add(key="b", value=str(index))
        holder.metadata_props.add(key="a", value="1")
    assert difference(proto, there_and_back(proto)) == ""
    assert difference(proto, there_and_back(there_and_back(proto))) == ""


def test_types_and_denotations_of_values():
    proto = with_weight(small())
    proto.graph.value_info.append(
        helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", None], "hidden", ["BATCH", ""])
    )
    proto.graph.value_info[0].type.denotation = "TENSOR"
    proto.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4], "the weight's own words"))
    assert difference(proto, there_and_back(proto)) == ""


def test_a_value_info_that_repeats_its_tensor_is_written_once():
    proto = with_weight(small())
    proto.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))
    assert not there_and_back(proto).graph.value_info


def test_quantization_annotations():
    proto = with_weight(small())
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "s"))
    for name in ("x", "h", "w", "y"):
        annotation = proto.graph.quantization_annotation.add(tensor_name=name)
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    assert difference(proto, there_and_back(proto)) == ""


def test_device_configurations():
    proto = with_weight(small())
    proto.configuration.add(name="two", num_devices=2, device=["a", "b"])
    device = proto.graph.node[0].device_configurations.add(configuration_id="two", pipeline_stage=1)
    sharding = device.sharding_spec.add(tensor_name="x", device=[0, 1])
    sharding.sharded_dim.add(axis=0).simple_sharding.add(dim_param="N", num_shards=2)
    assert difference(proto, there_and_back(proto)) == ""
    proto.ir_version = 10
    with pytest.raises(ModelError, match="device configurations"):
        from_proto(proto)


def test_strings_in_tensors_and_attributes():
    proto = with_weight(small())
    proto.graph.initializer.append(numpy_helper.from_array(np.array(["ä", "", "b"], object), "words"))
    proto.graph.node.append(
        helper.make_node("Op", ["words"], ["z"], domain="custom", text=b"\xff\x00", texts=["a", "ß"])
    )
    proto.opset_import.add(domain="custom", version=3)
    assert difference(proto, there_and_back(proto)) == ""


@pytest.mark.parametrize("dtype", ["INT4", "UINT4", "FLOAT16", "BFLOAT16", "FLOAT8E4M3FN", "BOOL", "COMPLEX64", "INT2"])
@pytest.mark.parametrize("raw", [True, False])
def test_element_types_in_both_storages(dtype, raw):
    kind = getattr(TensorProto, dtype)
    array = np.array([1, 0, 1], helper.tensor_dtype_to_np_dtype(kind))
    tensor = numpy_helper.from_array(array, "w2") if raw else helper.make_tensor("w2", kind, [3], [1, 0, 1])
    proto = with_weight(small())
    proto.graph.initializer.append(tensor)
    proto.graph.node.append(helper.make_node("Op", ["w2"], ["z"], domain="custom"))
    proto.opset_import.add(domain="custom", version=1)
    assert difference(proto, there_and_back(proto)) == ""


TYPES = {
    "sequence": helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 2])),
    "optional": helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None)),
    "optional_sequence": helper.make_optional_type_proto(
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.INT64, []))
    ),
    "sparse": helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [3, "N"]),
    "map": helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])),
    "sequence_of_maps": helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    ),
    "unknown_element": onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor(shape=onnx.TensorShapeProto())),
    "opaque": onnx.TypeProto(opaque_type=onnx.TypeProto.Opaque(domain="d", name="thing"), denotation="THING"),
}


@pytest.mark.parametrize("kind", TYPES)
def test_types_other_than_tensors(kind):
    node = helper.make_node("Op", ["a"], ["b"], domain="custom")
    second = helper.make_node("Op", ["b"], ["c"], domain="custom")
    infos = [helper.make_value_info(name, TYPES[kind]) for name in "abc"]
    graph = helper.make_graph([node, second], "g", infos[:1], infos[2:], value_info=infos[1:2])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("custom", 1), helper.make_opsetid("", 18)])
    assert difference(proto, there_and_back(proto)) == ""


def test_a_classifier_with_a_map_as_output_runs_as_before():
    zipmap = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[3, 5])
    graph = helper.make_graph(
        [zipmap], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_value_info("y", TYPES["sequence_of_maps"])],
    )  # fmt: skip
    imports = [helper.make_opsetid("ai.onnx.ml", 1), helper.make_opsetid("", 17)]
    after = from_proto(there_and_back(helper.make_model(graph, opset_imports=imports, ir_version=8)))
    outputs = Session(after).run({"x": np.array([[0.25, 0.75]], np.float32)})
    assert outputs["y"] == [{3: 0.25, 5: 0.75}]


def test_subgraphs_with_constants_and_outer_values():
    text = """
    <ir_version: 8, opset_import: ["": 18]>
    g (bool c, float[2] x, int64 n) => (float[2] y, float[2] z) {
        y = If (c) <then_branch = a () => (float[2] p) { p = Mul (x, x) },
                    else_branch = b () => (float[2] q) <float[2] k = {1.0, 2.0}> { q = Add (x, k) }>
        z = Loop (n, c, x) <body = l (int64 i, bool o, float[2] s) => (bool o2, float[2] t) {
            o2 = Identity (o)
            t = Add (s, x)
        }>
    }
    """
    assert difference(parsed(text), there_and_back(parsed(text))) == ""


# -- documented normalizations ------------------------------------------------------------------------------


def test_initializers_among_the_inputs_of_old_files_become_constants():
    proto = with_weight(small())
    proto.ir_version = 3
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))
    after = there_and_back(proto)
    assert ([info.name for info in after.graph.input], after.ir_version) == (["x"], 4)
    assert difference(proto, after) == ""


def test_initializers_among_the_inputs_of_new_files_stay_overridable():
    proto = with_weight(small())
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))
    assert difference(proto, there_and_back(proto)) == ""


@pytest.mark.parametrize("indices", [[1, 3], [[0, 1], [1, 1]]])
def test_sparse_initializers_become_dense(indices):
    dims = [4] if np.ndim(indices) == 1 else [2, 2]
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [5.0, 7.0])
    proto = small()
    places = numpy_helper.from_array(np.array(indices, np.int64))
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, dims))
    dense = numpy_helper.to_array(there_and_back(proto).graph.initializer[0])
    assert dense.shape == tuple(dims)
    assert dense.reshape(-1).tolist() == [0, 5, 0, 7]


def test_sparse_constants_become_dense_and_other_sparse_attributes_are_refused():
    values = helper.make_tensor("", TensorProto.FLOAT, [1], [5.0])
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([2], np.int64)), [4])
    proto = small()
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=sparse))
    attribute = there_and_back(proto).graph.node[0].attribute[0]
    assert attribute.name == "value"
    assert numpy_helper.to_array(attribute.t).tolist() == [0, 0, 5, 0]
    proto.graph.node[0].attribute[0].name = "other"
    with pytest.raises(ModelError, match="sparse tensor"):
        from_proto(proto)


@pytest.mark.parametrize(("dims", "index"), [([4], 9), ([4], -1), ([1 << 40], 0)])
def test_malformed_or_vast_sparse_initializers_are_refused(dims, index):
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [5.0])
    proto = small()
    places = numpy_helper.from_array(np.array([index], np.int64))
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, dims))
    with pytest.raises(ModelError, match="sparse tensor 'w'"):
        from_proto(proto)


def test_training_information_is_refused():
    proto = with_weight(small())
    proto.training_info.add()
    with pytest.raises(ModelError, match="training information"):
        from_proto(proto)


def test_the_first_ir_version_has_attributes_without_type_and_no_operator_sets():
    proto = with_weight(small())
    proto.graph.node[0].attribute.add(name="consumed_inputs", ints=[0])
    proto.ir_version = 1
    del proto.opset_import[:]
    after = there_and_back(proto)
    assert after.graph.node[0].attribute[0].type == onnx.AttributeProto.INTS
    assert [(entry.domain, entry.version) for entry in after.opset_import] == [("", 1)]


def test_the_alias_of_the_standard_domain():
    proto = with_weight(small())
    proto.opset_import[0].domain = proto.graph.node[0].domain = "ai.onnx"
    after = there_and_back(proto)
    assert (after.opset_import[0].domain, after.graph.node[0].domain) == ("", "")


def test_nodes_out_of_order_are_sorted():
    proto = with_weight(small())
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    assert [node.op_type for node in there_and_back(proto).graph.node] == ["Relu", "Add"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda proto: proto.graph.node.add(op_type="X", domain="nowhere", input=["x"], output=["z"]), "operator set"),
        (lambda proto: proto.graph.initializer.append(proto.graph.initializer[0]), "two initializers called 'w'"),
        (lambda proto: proto.graph.initializer.append(TensorProto(data_type=1)), "no name"),
        (lambda proto: proto.graph.initializer[0].dims.append(2), "needs"),
        (lambda proto: proto.graph.initializer[0].dims.append(-1), "impossible shape"),
        (lambda proto: setattr(proto.graph.initializer[0], "data_type", 99), "element type"),
        (lambda proto: proto.graph.node[0].attribute.add(name="a"), "has no type"),
        (lambda proto: proto.opset_import.add(domain="ai.onnx", version=3), "two versions"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_reason(fault, message):
    proto = with_weight(small())
    fault(proto)
    with pytest.raises(ModelError, match=message):
        from_proto(proto)


# -- external data ------------------------------------------------------------------------------------------


def test_external_data_in_initializers_and_attributes(tmp_path):
    weight = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    proto = with_weight(small(), weight)
    proto.graph.initializer[0].metadata_props.add(key="k", value="v")
    proto.graph.initializer[0].doc_string = "large"
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(weight + 1, "inner"))
    proto.graph.node.insert(0, constant)
    proto.graph.node.append(helper.make_node("Sub", ["y", "k"], ["z"]))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    path = tmp_path / "a.onnx"
    stored = onnx.ModelProto.FromString(proto.SerializeToString())
    onnx.save(stored, path, save_as_external_data=True, size_threshold=0, location="a.bin", convert_attribute=True)
    files = save(load(path), tmp_path / "b.onnx")
    assert [file.name for file in files] == ["b.onnx", "b.onnx.data"]
    (tmp_path / "a.bin").unlink()
    assert difference(proto, onnx.load(tmp_path / "b.onnx")) == ""
