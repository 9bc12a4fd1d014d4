"""Whether a model is valid ONNX, where operators that ONNX does not know are allowed: plugins of a runtime."""

from __future__ import annotations

import onnx
from onnx import AttributeProto, TensorProto

from graphpress.ir import Model
from graphpress.ir.foreign import foreign_nodes
from graphpress.ir.skeleton import to_skeleton

_ASIDE = "graphpress.unknown"
"""Where unknown operators of the standard domain go for the checker, which leaves other domains alone."""

_WIDEST = 16
"""Bytes of one element of any type, complex double included."""


def fault_of(model: Model) -> str:
    """What the ONNX checker objects to in the model, on one line; empty when it is valid."""
    proto, _ = to_skeleton(model)
    foreign = {(node.domain, node.op_type) for node in foreign_nodes(model)}
    proto.opset_import.add(domain=_ASIDE, version=1)
    for owner in (proto.graph, *proto.functions):
        _ready(owner, foreign)
    for function in proto.functions:
        function.opset_import.add(domain=_ASIDE, version=1)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        return " ".join(str(error).split())[:300]
    return ""


def _ready(owner: onnx.GraphProto | onnx.FunctionProto, foreign: set[tuple[str, str]]) -> None:
    """Set unknown operators aside, and give each tensor a content that stands for the real one, in place."""
    if isinstance(owner, onnx.GraphProto):
        for tensor in owner.initializer:
            _fill(tensor)
        for info in (*owner.input, *owner.output):
            if info.type.HasField("tensor_type"):
                info.type.tensor_type.shape.SetInParent()  # the checker wants a shape; runtimes do not
    for node in owner.node:
        if (node.domain, node.op_type) in foreign:
            node.domain = _ASIDE
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                _ready(attribute.g, foreign)
            elif attribute.type in (AttributeProto.TENSOR, AttributeProto.TENSORS):
                for tensor in (attribute.t, *attribute.tensors):
                    _fill(tensor)


def _fill(tensor: TensorProto) -> None:
    if tensor.data_location == TensorProto.EXTERNAL:
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        tensor.dims[:] = [1]  # the checker infers no shapes
        tensor.raw_data = bytes(_WIDEST)
