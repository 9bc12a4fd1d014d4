"""What onnx-graphsurgeon cannot hold: taken out of a message before, settled in it afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from onnx import AttributeProto

from graphpress.graphsurgeon.merge import keyed
from graphpress.ir.encoding.text import USE_KEY

Body = onnx.GraphProto | onnx.FunctionProto

_BEYOND = (
    AttributeProto.TENSORS, AttributeProto.GRAPHS, AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS,
    AttributeProto.TYPE_PROTO, AttributeProto.TYPE_PROTOS,
)  # fmt: skip
"""Types of attributes that onnx-graphsurgeon skips."""


def narrow(proto: onnx.ModelProto) -> None:
    """Take out, in place, what onnx-graphsurgeon would choke on or warn of, and express overloads as names."""
    for function in proto.functions:
        _join_overload(function, "name")
    for body in _bodies([proto.graph, *proto.functions]):
        for node in body.node:
            _join_overload(node, "op_type")
            kept = [attribute for attribute in node.attribute if attribute.type not in _BEYOND and _is_text(attribute)]
            if len(kept) < len(node.attribute):
                del node.attribute[:]
                node.attribute.extend(kept)
        infos = [*body.input, *body.output, *body.value_info] if isinstance(body, onnx.GraphProto) else []
        for info in infos:
            if not _is_of_tensors(info.type):
                info.ClearField("type")


def _join_overload(item: onnx.FunctionProto | onnx.NodeProto, field: str) -> None:
    if item.overload:
        setattr(item, field, f"{getattr(item, field)}:{item.overload}")
        item.ClearField("overload")


def encode_overloads(proto: onnx.ModelProto, ours: onnx.ModelProto) -> None:
    """The opposite of what narrowing does with overloads, in place."""
    overloaded = [function for function in ours.functions if function.overload]
    known = {(original.domain, f"{original.name}:{original.overload}"): original for original in overloaded}
    for function in proto.functions:
        if original := known.get((function.domain, function.name)):
            function.name, function.overload = original.name, original.overload
    for body in _bodies([proto.graph, *proto.functions]):
        for node in body.node:
            if original := known.get((node.domain, node.op_type)):
                node.op_type, node.overload = original.name, original.overload


def _is_text(attribute: AttributeProto) -> bool:
    try:
        return all(isinstance(text.decode(), str) for text in (attribute.s, *attribute.strings))
    except UnicodeDecodeError:
        return False


def _is_of_tensors(kind: onnx.TypeProto) -> bool:
    """Whether the type is one that onnx-graphsurgeon can write."""
    if kind.HasField("sequence_type"):
        return bool(kind.sequence_type.elem_type.tensor_type.elem_type)
    return bool(kind.tensor_type.elem_type or kind.sparse_tensor_type.elem_type)


def _bodies(outer: Iterable[Body]) -> Iterator[Body]:
    """Graphs and functions with the graphs within."""
    for body in outer:
        yield body
        yield from _bodies(attribute.g for node in body.node for attribute in node.attribute if attribute.HasField("g"))


def settle(ours: onnx.GraphProto, graph: onnx.GraphProto) -> None:
    """Take back, in place, what came back by name and means nothing any more.

    That is an overridable input whose initializer the surgery removed, an annotation of a tensor that is gone, and the
    override of a use that now reads another value.
    """
    gone = {tensor.name for tensor in ours.initializer} - {tensor.name for tensor in graph.initializer}
    _keep(graph.input, lambda info: info.name not in gone)
    known = {tensor.name for tensor in graph.initializer} | {info.name for info in graph.input}
    known |= {name for node in graph.node for name in node.output}
    _keep(graph.quantization_annotation, lambda annotation: annotation.tensor_name in known)
    before = keyed(ours.node)
    for key, node in keyed(graph.node).items():
        if key in before:
            _settle_node(before[key], node)


def _settle_node(before: onnx.NodeProto, node: onnx.NodeProto) -> None:
    own = dict(enumerate(before.input))
    same = {f"{USE_KEY}{index}" for index, name in enumerate(node.input) if own.get(index) == name}
    _keep(node.metadata_props, lambda entry: not entry.key.startswith(USE_KEY) or entry.key in same)
    subgraphs = {attribute.name: attribute.g for attribute in before.attribute if attribute.HasField("g")}
    for attribute in node.attribute:
        if attribute.HasField("g") and attribute.name in subgraphs:
            settle(subgraphs[attribute.name], attribute.g)


def _keep(field: Any, wanted: Any) -> None:
    kept = [entry for entry in field if wanted(entry)]
    if len(kept) < len(field):
        del field[:]
        field.extend(kept)
