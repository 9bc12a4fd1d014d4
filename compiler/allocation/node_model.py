"""Models of a single node at given shapes, to be timed alone."""

from __future__ import annotations

import numpy as np

from graphpress.analysis.views import dtype_of
from graphpress.ir import DataType, Model, NodeView, from_proto, is_constant, is_standard, subgraphs_of

_OPSET = 21
_FILL = 0.01
"""The value of all constants: small, and neither zero nor denormal, which kernels may treat in another time."""


def node_model(view: NodeView) -> Model:
    """A model of this node alone, with these shapes: constants stay constants, the rest are inputs."""
    from onnx import TensorProto, helper, numpy_helper

    inputs, constants, names = [], [], []
    for index, (value, shape) in enumerate(zip(view.node.inputs, view.input_shapes, strict=True)):
        names.append("" if value is None else f"x{index}")
        if value is None or shape is None:
            continue
        if is_constant(value):
            constants.append(numpy_helper.from_array(np.full(shape, _FILL, np.float32), names[-1]))
        else:
            inputs.append(helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, shape))
    attributes = {name: attribute.value for name, attribute in view.node.attributes.items()}
    if attributes.get("group", 1) > 1:
        attributes["group"] = _groups(view)
    outputs = [f"y{index}" for index in range(len(view.output_shapes))]
    node = helper.make_node(view.node.op_type, names, outputs, **attributes)
    results = [helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, view.output_shape())]
    graph = helper.make_graph([node], "node", inputs, results, constants)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", min(view.opset, _OPSET))]))


def can_run_alone(view: NodeView) -> bool:
    """Whether it is a standard node without subgraphs that reads and writes known shapes of 32-bit floats."""
    values = [value for value in (*view.node.inputs, *view.node.outputs) if value is not None]
    shapes = [shape for value, shape in zip(view.node.inputs, view.input_shapes, strict=True) if value is not None]
    return (
        is_standard(view.node)
        and not any(True for _ in subgraphs_of(view.node))
        and all(dtype_of(value) in (None, DataType.FLOAT) for value in values)
        and None not in (*shapes, *view.output_shapes)
    )


def signature(view: NodeView) -> str:
    """What decides a node's time: operator, attributes, shapes, and which inputs are constant."""
    attributes = sorted((name, repr(attribute.value)) for name, attribute in view.node.attributes.items())
    constants = [is_constant(value) for value in view.node.inputs]
    return repr((view.node.op_type, attributes, view.input_shapes, view.output_shapes, constants))


def _groups(view: NodeView) -> int:
    """Groups of a convolution with these shapes."""
    kernel = view.input_shape(1)
    if view.node.op_type == "ConvTranspose":
        return view.output_shape()[1] // kernel[1]
    return view.input_shape(0)[1] // kernel[1]
