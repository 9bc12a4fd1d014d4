"""What an ONNX message may hold and onnx_ir would drop: converted before reading, put back after writing, or refused.

Converted: sparse constants become dense ones (bounded), attributes of the first IR version get the type that their
contents imply, negative dimensions, by which some exporters mean unknown ones, become that, the alias ``ai.onnx`` of
the standard domain becomes the empty string, and a file of IR version 1 or 2 without operator sets declares version 1,
which it meant. Put back: types that onnx_ir has no class for, such as maps. Refused, with the reason: training
information, names given twice, tensors whose contents do not fit their shape, element types that ONNX does not know,
nodes that break the schema of their operator.
"""

from __future__ import annotations

import base64
from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import AttributeProto, TensorProto, helper

from graphpress.errors import ModelError
from graphpress.ir.contents import CHECKER, ELEMENT_TYPES, check_contents, dense
from graphpress.ir.node_checks import check_node

T = TypeVar("T", bound=Hashable)
Body = onnx.GraphProto | onnx.FunctionProto

FIRST_IR_WITH_OPERATOR_SETS = 3
_LARGEST_VERSION = 2**31 - 1
FIRST_IR_WITH_DEVICES = 11
TYPE_KEY = "graphpress/type.v1"
"""Under this key a value keeps the type that onnx_ir has no class for, so that it survives clones and edits."""

_STANDARD = ("", "ai.onnx")
PLAIN = (
    AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT, AttributeProto.FLOATS, AttributeProto.STRING,
    AttributeProto.STRINGS,
)  # fmt: skip
_MESSAGE, _STRING = FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING
_SOUND = (str, int, float)
"""What protobuf returns as one of these is no string, or one that it could decode."""
_FIELDS = {
    "f": AttributeProto.FLOAT, "i": AttributeProto.INT, "s": AttributeProto.STRING, "t": AttributeProto.TENSOR,
    "g": AttributeProto.GRAPH, "floats": AttributeProto.FLOATS, "ints": AttributeProto.INTS,
    "strings": AttributeProto.STRINGS, "tensors": AttributeProto.TENSORS, "graphs": AttributeProto.GRAPHS,
}  # fmt: skip


# -- before reading -----------------------------------------------------------------------------------------


def prepare(proto: onnx.ModelProto, where: str) -> None:
    """Make a message, in place, one that onnx_ir reads without loss.

    Raises:
        ModelError: what cannot be kept, and where.
    """
    _check_strings(proto, where)
    _refuse_what_cannot_be_kept(proto, where)
    for owner in (proto, *proto.functions):
        _settle_operator_sets(owner, where)
    if not proto.opset_import and proto.ir_version < FIRST_IR_WITH_OPERATOR_SETS:
        proto.opset_import.add(domain="", version=1)
    for body in _within(proto.graph):
        _settle_body(body, proto, proto, where)
    for function in proto.functions:
        _check_function(function, f"{where}, function {function.name!r}")
        for body in _within(function):
            _settle_body(body, proto, function, where)


def _settle_body(body: Body, proto: onnx.ModelProto, owner: onnx.ModelProto | onnx.FunctionProto, where: str) -> None:
    """Settle one graph or function.

    Args:
        body: without the graphs within.
        proto: the model.
        owner: whose operator sets hold here.
        where: what errors call the model.
    """
    if proto.ir_version < FIRST_IR_WITH_DEVICES and any(node.device_configurations for node in body.node):
        raise _unknown_devices(proto, where)
    versions = {declared.domain: declared.version for declared in owner.opset_import}
    own = {(function.domain, function.name) for function in proto.functions}
    for node in body.node:
        for attribute in node.attribute:
            if attribute.type not in PLAIN:
                _settle_attribute(attribute, where)
        if (node.domain, node.op_type) not in own:
            check_node(node, versions, where, in_function=owner is not proto)
    infos = _value_infos(body) if isinstance(body, onnx.GraphProto) else body.value_info
    for info in infos:
        _settle_type(info, where)
    if isinstance(body, onnx.GraphProto):
        _densify(body, where)
        _check_initializers(body, where)
        for info in _value_infos(body):
            _set_type_aside(info)


def bodies(proto: onnx.ModelProto) -> Iterator[Body]:
    """The graph, the functions, and the graphs within."""
    for root in (proto.graph, *proto.functions):
        yield from _within(root)


def _within(root: Body) -> Iterator[Body]:
    """A graph or function, and the graphs within."""
    pending = [root]
    while pending:
        body = pending.pop()
        yield body
        for node in body.node:
            for attribute in node.attribute:
                if attribute.type in PLAIN:
                    continue
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)


def _check_strings(proto: onnx.ModelProto, where: str) -> None:
    """Whether every string is UTF-8: protobuf hands out the others as bytes, or fails when they are looked at."""
    pending: list[Message] = [proto]
    while pending:
        for field, value in pending.pop().ListFields():
            if type(value) in _SOUND:
                continue
            kind = field.type
            if kind == _MESSAGE:
                if isinstance(value, Message):
                    pending.append(value)
                else:
                    pending.extend(value)
            elif kind == _STRING and not _is_text(value):
                raise ModelError(
                    f"a {field.name!r} in it is not text",
                    where=where,
                    fix="export the model again; the file may be damaged",
                )


def _is_text(value: bytes | Iterable[str | bytes]) -> bool:
    try:
        return not isinstance(value, bytes) and set(map(type, value)) <= {str}
    except UnicodeDecodeError:
        return False


def _refuse_what_cannot_be_kept(proto: onnx.ModelProto, where: str) -> None:
    if proto.training_info:
        raise ModelError(
            "holds training information, which would be lost",
            where=where,
            fix="remove it first: del model.training_info[:]",
        )
    if proto.configuration and proto.ir_version < FIRST_IR_WITH_DEVICES:
        raise _unknown_devices(proto, where)
    identities = [(function.domain, function.name, function.overload) for function in proto.functions]
    for identity in _repeated(identities):
        raise ModelError(f"defines the function {'::'.join(filter(None, identity))} twice", where=where, fix=CHECKER)


def _unknown_devices(proto: onnx.ModelProto, where: str) -> ModelError:
    return ModelError(
        f"has device configurations, which IR version {proto.ir_version} does not know",
        where=where,
        fix=f"set ir_version to {FIRST_IR_WITH_DEVICES} or remove them",
    )


def _settle_operator_sets(owner: onnx.ModelProto | onnx.FunctionProto, where: str) -> None:
    versions: dict[str, int] = {}
    for declared in owner.opset_import:
        domain = "" if declared.domain in _STANDARD else declared.domain
        if not (0 if domain else 1) <= declared.version <= _LARGEST_VERSION:
            raise ModelError(
                f"declares the version {declared.version} of opset {domain or 'ai.onnx'!r}, which there cannot be",
                where=where,
                fix=CHECKER,
            )
        if versions.setdefault(domain, declared.version) != declared.version:
            raise ModelError(f"declares two versions of opset {domain or 'ai.onnx'!r}", where=where, fix=CHECKER)
        declared.domain = domain


def _settle_attribute(attribute: AttributeProto, where: str) -> None:
    if attribute.type == AttributeProto.UNDEFINED and not attribute.ref_attr_name:
        given = [name for name in _FIELDS if _is_set(attribute, name)]
        if len(given) != 1:
            raise ModelError(f"attribute {attribute.name!r} has no type", where=where, fix=CHECKER)
        attribute.type = _FIELDS[given[0]]
    if attribute.type == AttributeProto.SPARSE_TENSOR and attribute.name == "sparse_value":
        constant = dense(attribute.sparse_tensor, where)
        attribute.Clear()
        attribute.name, attribute.type = "value", AttributeProto.TENSOR
        attribute.t.CopyFrom(constant)
    elif attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS):
        raise ModelError(
            f"attribute {attribute.name!r} is a sparse tensor, which would be lost", where=where, fix="store it dense"
        )
    for tensor in [attribute.t] if attribute.type == AttributeProto.TENSOR else attribute.tensors:
        check_contents(tensor, f"{where}, attribute {attribute.name!r}")


_TENSORS = (AttributeProto.TENSOR, AttributeProto.TENSORS)


def _check_function(function: onnx.FunctionProto, place: str) -> None:
    """Outputs are computed; defaults of attributes are plain values: nothing looks for graphs or for files there."""
    made = {*function.input, *(name for node in function.node for name in node.output)}
    for name in function.output:
        if name not in made:
            raise ModelError(f"its output {name!r} is computed by nothing", where=place, fix=CHECKER)
    for attribute in function.attribute_proto:
        if attribute.type not in PLAIN:
            raise ModelError(
                f"the default of its attribute {attribute.name!r} is no number and no text",
                where=place,
                fix="give the attribute at each call",
            )


def _is_set(attribute: AttributeProto, name: str) -> bool:
    return bool(getattr(attribute, name)) if name.endswith("s") and name != "s" else attribute.HasField(name)


# -- constants ----------------------------------------------------------------------------------------------


def _densify(graph: onnx.GraphProto, where: str) -> None:
    for sparse in graph.sparse_initializer:
        graph.initializer.append(dense(sparse, where))
        for info in _value_infos(graph):
            if info.name == sparse.values.name and info.type.HasField("sparse_tensor_type"):
                kind = info.type.sparse_tensor_type
                info.type.CopyFrom(helper.make_tensor_type_proto(kind.elem_type, tuple(sparse.dims)))
    del graph.sparse_initializer[:]


def _check_initializers(graph: onnx.GraphProto, where: str) -> None:
    names = [tensor.name for tensor in graph.initializer]
    if "" in names:
        raise ModelError(f"initializer number {names.index('')} has no name", where=where, fix=CHECKER)
    for name in _repeated(names):
        raise ModelError(f"has two initializers called {name!r}", where=where, fix=CHECKER)
    for tensor in graph.initializer:
        check_contents(tensor, f"{where}, initializer {tensor.name!r}")


def _repeated(items: Iterable[T]) -> Iterator[T]:
    seen: set[T] = set()
    for item in items:
        if item in seen:
            yield item
        seen.add(item)


# -- types --------------------------------------------------------------------------------------------------


def _value_infos(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.input
    yield from graph.output
    yield from graph.value_info


def _settle_type(info: onnx.ValueInfoProto, where: str) -> None:
    place = f"{where}, type of {info.name!r}"
    try:
        _put_type_back(info)
    except (ValueError, DecodeError) as error:
        raise ModelError(f"{TYPE_KEY} holds no type", where=place, fix="remove the entry") from error
    if info.HasField("type"):
        _check_type(info.type, place)


def _check_type(kind: onnx.TypeProto, place: str) -> None:
    """Check the element type; dimensions that are negative become unknown, in place."""
    field = kind.WhichOneof("value")
    if field in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(kind, field)
        if tensor.HasField("elem_type") and tensor.elem_type not in ELEMENT_TYPES:
            raise ModelError(f"the element type {tensor.elem_type} is unknown", where=place, fix=CHECKER)
        for dim in tensor.shape.dim if tensor.HasField("shape") else ():
            if dim.HasField("dim_value") and dim.dim_value < 0:
                dim.ClearField("dim_value")
    elif field in ("sequence_type", "optional_type"):
        element = getattr(kind, field).elem_type
        if element.WhichOneof("value") is None:
            raise ModelError(f"the {field.partition('_')[0]} has no type of elements", where=place, fix=CHECKER)
        _check_type(element, place)
    elif field == "map_type":
        _check_type(kind.map_type.value_type, place)


def _set_type_aside(info: onnx.ValueInfoProto) -> None:
    if info.HasField("type") and not _is_known(info.type):
        text = base64.b64encode(info.type.SerializeToString(deterministic=True)).decode("ascii")
        info.metadata_props.add(key=TYPE_KEY, value=text)
        info.ClearField("type")


def _is_known(kind: onnx.TypeProto) -> bool:
    """Whether onnx_ir has a class for the type, down to its elements."""
    field = kind.WhichOneof("value")
    if field in ("sequence_type", "optional_type"):
        return _is_known(getattr(kind, field).elem_type)
    if field in ("tensor_type", "sparse_tensor_type"):
        return bool(getattr(kind, field).HasField("elem_type"))
    return field is None and not kind.denotation


# -- after writing ------------------------------------------------------------------------------------------


def restore(proto: onnx.ModelProto) -> None:
    """Put back, in place, what was set aside, and take out what onnx_ir writes twice."""
    for body in bodies(proto):
        for node in body.node:
            for attribute in node.attribute:
                if attribute.type in _TENSORS:
                    for tensor in (attribute.t, *attribute.tensors):
                        _write_metadata_once(tensor)
        if isinstance(body, onnx.GraphProto):
            for tensor in body.initializer:
                _write_metadata_once(tensor)
            for info in _value_infos(body):
                _put_type_back(info)
            _drop_repeated_types(body)
            _annotate_once(body)


def _write_metadata_once(tensor: TensorProto) -> None:
    if len(tensor.metadata_props) > 1:
        entries = sorted({entry.key: entry.value for entry in tensor.metadata_props}.items())
        del tensor.metadata_props[:]
        for key, value in entries:
            tensor.metadata_props.add(key=key, value=value)


def _put_type_back(info: onnx.ValueInfoProto) -> None:
    if not info.metadata_props:
        return
    kept = [entry for entry in info.metadata_props if entry.key != TYPE_KEY]
    for entry in info.metadata_props:
        if entry.key == TYPE_KEY and not info.HasField("type"):
            info.type.ParseFromString(base64.b64decode(entry.value))
    if len(kept) < len(info.metadata_props):
        del info.metadata_props[:]
        info.metadata_props.extend(kept)


def _drop_repeated_types(graph: onnx.GraphProto) -> None:
    """An initializer has its own shape and type: drop a value info that adds nothing."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    kept = [info for info in graph.value_info if info.name not in tensors or _adds_facts(info, tensors[info.name])]
    if len(kept) < len(graph.value_info):
        del graph.value_info[:]
        graph.value_info.extend(kept)


def _adds_facts(info: onnx.ValueInfoProto, tensor: TensorProto) -> bool:
    own = helper.make_tensor_value_info(tensor.name, tensor.data_type, tuple(tensor.dims))
    return bool(info != own)


def _annotate_once(graph: onnx.GraphProto) -> None:
    annotations = {annotation.tensor_name: annotation for annotation in graph.quantization_annotation}
    if len(annotations) < len(graph.quantization_annotation):
        kept = list(annotations.values())
        del graph.quantization_annotation[:]
        graph.quantization_annotation.extend(kept)
