"""Models of a single node at given shapes, to be timed alone."""

from __future__ import annotations

import numpy as np

from graphpress.analysis.calls import dtype_of
from graphpress.ir import DataType, Model, from_proto, is_constant, is_standard, subgraphs_of
from graphpress.ops import Call

_OPSET = 21
_FILL = 0.01
"""The value of all constants: small, and neither zero nor denormal, which kernels may treat in another time."""


def node_model(call: Call) -> Model:
    """A model of this node alone, with these shapes: constants stay constants, the rest are inputs."""
    from onnx import TensorProto, helper, numpy_helper

    inputs, constants, names = [], [], []
    for index, (value, shape) in enumerate(zip(call.node.inputs, call.inputs, strict=True)):
        names.append("" if value is None else f"x{index}")
        if value is None or shape is None:
            continue
        if is_constant(value):
            constants.append(numpy_helper.from_array(np.full(shape, _FILL, np.float32), names[-1]))
        else:
            inputs.append(helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, shape))
    attributes = {name: attribute.value for name, attribute in call.node.attributes.items()}
    if attributes.get("group", 1) > 1:
        attributes["group"] = _groups(call)
    outputs = [f"y{index}" for index in range(len(call.outputs))]
    node = helper.make_node(call.node.op_type, names, outputs, **attributes)
    results = [helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, call.output())]
    graph = helper.make_graph([node], "node", inputs, results, constants)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", min(call.opset, _OPSET))]))


def can_run_alone(call: Call) -> bool:
    """Whether it is a standard node without subgraphs that reads and writes known shapes of 32-bit floats."""
    values = [value for value in (*call.node.inputs, *call.node.outputs) if value is not None]
    shapes = [shape for value, shape in zip(call.node.inputs, call.inputs, strict=True) if value is not None]
    return (
        is_standard(call.node)
        and not any(True for _ in subgraphs_of(call.node))
        and all(dtype_of(value) in (None, DataType.FLOAT) for value in values)
        and None not in (*shapes, *call.outputs)
    )


def signature(call: Call) -> str:
    """What decides a node's time: operator, attributes, shapes, and which inputs are constant."""
    attributes = sorted((name, repr(attribute.value)) for name, attribute in call.node.attributes.items())
    constants = [is_constant(value) for value in call.node.inputs]
    return repr((call.node.op_type, attributes, call.inputs, call.outputs, constants))


def _groups(call: Call) -> int:
    """Groups of a convolution with these shapes."""
    kernel = call.input(1)
    if call.node.op_type == "ConvTranspose":
        return call.output()[1] // kernel[1]
    return call.input(0)[1] // kernel[1]
