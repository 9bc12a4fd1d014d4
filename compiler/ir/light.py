"""A model as a message without large constants and long lists, for tools that read shapes and types."""

from __future__ import annotations

import onnx
import onnx_ir
from onnx import TensorProto

from graphpress.ir.files import to_proto
from graphpress.ir.long_lists import LONG, elements_of
from graphpress.ir.types import Model
from graphpress.ir.values import STANDARD_DOMAINS


def to_light_proto(model: Model, most_elements: int) -> onnx.ModelProto:
    """The model as a message in which large constants of the main graph are inputs of the same type.

    The model is not changed, and nothing of it is copied but what the message holds.

    Args:
        model: what to convert.
        most_elements: constants of up to this many stay, with their contents even where those lie in a file.
    """
    graph = model.graph
    large = {
        name: value
        for name, value in graph.initializers.items()
        if value.const_value is not None and value.const_value.size > most_elements
    }
    view = onnx_ir.GraphView(
        [*graph.inputs, *(value for value in large.values() if not value.is_graph_input())],
        graph.outputs,
        nodes=graph,
        initializers=[value for name, value in graph.initializers.items() if name not in large],
        opset_imports=graph.opset_imports,
        name=graph.name,
    )
    light = onnx_ir.Model(view, ir_version=model.ir_version, functions=list(model.functions.values()))  # type: ignore[arg-type]
    proto = to_proto(light, encodings=False)
    _drop_long_lists(proto)
    for tensor in proto.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            contents = graph.initializers[tensor.name].const_value
            assert contents is not None
            tensor.ClearField("data_location")
            del tensor.external_data[:]
            tensor.raw_data = contents.tobytes()
    return proto


def _drop_long_lists(proto: onnx.ModelProto) -> None:
    """No shape depends on the lists of operators that are not of the standard, such as the nodes of a tree ensemble."""
    for node in proto.graph.node:
        if node.domain not in STANDARD_DOMAINS:
            for index in reversed(range(len(node.attribute))):
                if len(elements_of(node.attribute[index])) > LONG:
                    del node.attribute[index]
