"""A node as a model of its own, with the shapes and the constants that it has in its graph."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper, inliner, numpy_helper

from graphpress.analysis.linear import as_read
from graphpress.backends.tvm.lowering.context import shape_of
from graphpress.errors import ModelError
from graphpress.ir import AttributeType, DataType, Node, Value, constant, from_proto, opset_of
from graphpress.runtime import Session
from graphpress.scratch import scratch_folder

IR_VERSION = 10


def input_name(index: int) -> str:
    """Of an input of the model of a node."""
    return f"input_{index}"


def output_name(index: int) -> str:
    """Of an output of it."""
    return f"output_{index}"


def model_of(node: Node) -> onnx.ModelProto:
    """The model: constants are its initializers, other inputs its inputs, by ``input_name``.

    Raises:
        ModelError: a shape is not known.
    """
    inputs, constants = [], []
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        if (known := constant(value)) is not None:
            constants.append(numpy_helper.from_array(as_read(node, index, known), input_name(index)))
        else:
            inputs.append(_declared(value, input_name(index)))
    names = ["" if value is None else input_name(index) for index, value in enumerate(node.inputs)]
    results = [output_name(index) if value.name else "" for index, value in enumerate(node.outputs)]
    outputs = [_declared(value, name) for value, name in zip(node.outputs, results, strict=True) if name]
    alone = helper.make_node(node.op_type, names, results, domain=node.domain, **attributes_of(node))
    graph = helper.make_graph([alone], "node", inputs, outputs, constants)
    opsets = [helper.make_opsetid(node.domain, opset_of(node) or 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def written_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model of a node whose operator the standard defines by others, as those, with what is constant computed.

    Raises:
        ModelError: the definition cannot be put in its place, or ONNX Runtime cannot load it.
    """
    (node,) = model.graph.node
    typed = onnx.ModelProto.FromString(model.SerializeToString())
    typed.graph.value_info.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in model.graph.initializer
    )
    try:
        inlined = inliner.inline_selected_functions(typed, [(node.domain, node.op_type)], inline_schema_functions=True)
    except RuntimeError as error:  # as for optional inputs that are left out
        raise ModelError(f"cannot be written out: {error}", where=node.op_type, fix="use onnxruntime") from error
    with scratch_folder() as folder:
        file = folder / "folded.onnx"
        Session(from_proto(inlined), optimization="basic", optimized_path=file)
        return onnx.load(file)


def _declared(value: Value, name: str) -> onnx.ValueInfoProto:
    dtype = value.dtype or DataType.FLOAT
    return helper.make_tensor_value_info(name, int(dtype), shape_of(value))


def attributes_of(node: Node) -> dict[str, Any]:
    """The attributes of a node, as ``onnx.helper`` takes them."""
    tensors = {
        name: numpy_helper.from_array(attribute.as_tensor().numpy())
        for name, attribute in node.attributes.items()
        if attribute.type is AttributeType.TENSOR
    }
    return {name: attribute.value for name, attribute in node.attributes.items()} | tensors
