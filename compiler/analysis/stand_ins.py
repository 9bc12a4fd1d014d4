"""Operators of which onnx infers nothing, in the light form of a graph: others with results of the same shape.

MatMulNBits                                     MatMul by an input of K rows and N columns
GatherBlockQuantized                            Gather from an input of the size of the unpacked table
operators that keep their first input's shape   Identity
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from graphpress.ops import operator_key

_KEEP_SHAPE = ("GroupNormalization", "MeanVarianceNormalization")
"""Of which onnx 1.23 infers nothing."""
_PACKED_PRODUCT = "com.microsoft:MatMulNBits"
_PACKED_TABLE = "com.microsoft:GatherBlockQuantized"


def stand_in_for_unknown(graph: onnx.GraphProto) -> None:
    """Replace them in place; one that lacks inputs or sizes stays."""
    weights: dict[str, onnx.ValueInfoProto] = {}
    for node in graph.node:
        key = operator_key(node.op_type, node.domain)
        sizes = {attribute.name: attribute.i for attribute in node.attribute}
        if key in _KEEP_SHAPE:
            _become(node, "Identity", node.input[:1])
        elif key == _PACKED_PRODUCT and node.input:
            weight = _weight([sizes.get("K", 0), sizes.get("N", 0)])
            weights[weight.name] = weight
            _become(node, "MatMul", [node.input[0], weight.name])
        elif key == _PACKED_TABLE and len(node.input) > 1 and (dims := _unpacked_dims(graph, node.input[0], sizes)):
            weight = _weight(dims)
            weights[weight.name] = weight
            _become(node, "Gather", [weight.name, node.input[1]])
            node.attribute.append(onnx.helper.make_attribute("axis", sizes.get("gather_axis", 0)))
    graph.input.extend(weights.values())


def _weight(dims: Sequence[int]) -> onnx.ValueInfoProto:
    """An input of the type of weights that were unpacked."""
    name = f"graphpress.{'x'.join(map(str, dims))}"
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)


def _unpacked_dims(graph: onnx.GraphProto, name: str, sizes: Mapping[str, int]) -> list[int]:
    """The shape of a packed table, whose bytes may hold several elements; empty where it is not known."""
    held = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in graph.initializer}
    for value in graph.input:
        tensor = value.type.tensor_type
        held.setdefault(value.name, (tensor.elem_type, [dim.dim_value for dim in tensor.shape.dim]))
    dtype, dims = held.get(name, (0, []))
    if dims and dtype == onnx.TensorProto.UINT8:
        dims[-1] *= 8 // max(1, sizes.get("bits", 4))
    return dims


def _become(node: onnx.NodeProto, op_type: str, inputs: Sequence[str]) -> None:
    kept = list(inputs)
    node.op_type, node.domain = op_type, ""
    del node.input[:], node.attribute[:]
    node.input.extend(kept)
