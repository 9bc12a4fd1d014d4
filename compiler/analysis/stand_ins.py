"""Operators of which onnx infers nothing, in the light form of a graph: others with results of the same shape.

MatMulNBits       MatMul by an input of K rows and N columns
operators that keep their first input's shape       Identity
"""

from __future__ import annotations

import onnx

from graphpress.ops import operator_key

_KEEP_SHAPE = ("GroupNormalization", "MeanVarianceNormalization")
"""Of which onnx 1.23 infers nothing."""
_PACKED_PRODUCT = "com.microsoft:MatMulNBits"


def stand_in_for_unknown(graph: onnx.GraphProto) -> None:
    """Replace them in place."""
    inputs: dict[str, onnx.ValueInfoProto] = {}
    for node in graph.node:
        key = operator_key(node.op_type, node.domain)
        if key in _KEEP_SHAPE:
            _become(node, "Identity", [node.input[0]])
        elif key == _PACKED_PRODUCT:
            sizes = {attribute.name: attribute.i for attribute in node.attribute}
            weight = _weight(sizes.get("K", 0), sizes.get("N", 0))
            inputs[weight.name] = weight
            _become(node, "MatMul", [node.input[0], weight.name])
    graph.input.extend(inputs.values())


def _weight(rows: int, columns: int) -> onnx.ValueInfoProto:
    """An input of the type of a packed product's weights."""
    return onnx.helper.make_tensor_value_info(f"graphpress.{rows}x{columns}", onnx.TensorProto.FLOAT, [rows, columns])


def _become(node: onnx.NodeProto, op_type: str, inputs: list[str]) -> None:
    node.op_type, node.domain = op_type, ""
    del node.input[:], node.attribute[:]
    node.input.extend(inputs)
