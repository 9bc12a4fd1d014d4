"""In which arithmetic each node really runs: read off the graph that ONNX Runtime writes when it has loaded a model.

It keeps the name of a node, but for a suffix. A node that has no kernel of its own was fused into another; which one is
seen from the values: the kernel that makes the first value behind the node that is still there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import onnx

from graphpress.runtime.float_layers import LAYERS, WEIGHT

INTEGER_KERNELS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearConv",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMatMul",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QLinearWhere",
    }
)

QUANTIZERS = frozenset({"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})

FLOAT_RESULTS = frozenset(
    {
        "DequantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "Shape",
    }
)
"""Operators that read integers and return something else than quantized values."""

PRODUCTS = (*LAYERS, "MatMulInteger")
"""Operators of which it matters that the kernel which they are fused into computes in integers."""

INTEGER_TYPES = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4, onnx.TensorProto.UINT4)

SUFFIX = re.compile(r"(_token_\d+|_nchwc)+$")
"""What ONNX Runtime appends to the name of a node that it rewrites into another layout."""


def integer_layers(graph: onnx.GraphProto, became: Mapping[str, str]) -> set[str]:
    """Nodes that compute in integers, or whose weights were rounded to integers."""
    decoded = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    rounded = {SUFFIX.sub("", node.name) for node in graph.node if decoded.intersection(node.input[WEIGHT:])}
    return rounded | {name for name, dtype in became.items() if dtype == "int8"}


def graphs_of(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """A graph, and the bodies inside its nodes."""
    bodies = [
        body
        for node in graph.node
        for attribute in node.attribute
        for body in (attribute.g, *attribute.graphs)
        if body.node
    ]
    return [graph, *(inner for body in bodies for inner in graphs_of(body))]


def arithmetic_of(graph: onnx.GraphProto) -> dict[str, str]:
    """Follow integers through the graph: from quantizers, through kernels and data movers, to dequantizers."""
    integers = {init.name for init in graph.initializer if init.data_type in INTEGER_TYPES}
    types = {init.name: _float_type(init.data_type) for init in graph.initializer}
    computed = {}
    for node in graph.node:
        is_integer = node.op_type in INTEGER_KERNELS or (
            bool(node.input) and node.input[0] in integers and node.op_type not in FLOAT_RESULTS
        )
        if node.op_type == "QuantizeLinear" or (is_integer and node.op_type not in FLOAT_RESULTS):
            integers.update(node.output)
        floats = [types[name] for name in node.input if types.get(name)]
        computed[SUFFIX.sub("", node.name)] = "int8" if is_integer else (floats or ["float32"])[0]
    return computed


def _float_type(data_type: int) -> str:
    name = onnx.TensorProto.DataType.Name(data_type).lower()
    return {"float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16"}.get(name, "")


def arithmetic_of_fused(given: onnx.GraphProto, running: onnx.GraphProto, became: Mapping[str, str]) -> dict[str, str]:
    """The arithmetic of fused nodes where that says something: of products, and of all that is part of a float kernel.

    Args:
        given: the graph as it is in the file.
        running: what ONNX Runtime made of it.
        became: the arithmetic of the nodes that are still there, by name.
    """
    kernels = {name: name for name in became}  # one in another layout is called after its result
    kernels |= {output: SUFFIX.sub("", node.name) for node in running.node for output in node.output}
    readers = readers_of(given)
    fused = {}
    for node in given.node:
        kernel = None if node.name in became else kernel_behind(node, kernels, readers)
        if kernel is not None and (became[kernel] != "int8" or node.op_type in PRODUCTS):
            fused[node.name] = became[kernel]
    return fused


def readers_of(graph: onnx.GraphProto) -> Mapping[str, list[onnx.NodeProto]]:
    """The nodes that read each value, by its name."""
    readers = defaultdict[str, list[onnx.NodeProto]](list)
    for node in graph.node:
        for name in set(node.input):
            readers[name].append(node)
    return readers


def kernel_behind(
    node: onnx.NodeProto, kernels: Mapping[str, str], readers: Mapping[str, list[onnx.NodeProto]]
) -> str | None:
    """The name of the kernel that makes the first value behind a node that is still there."""
    value = node.output[0]
    while value not in kernels:
        behind = readers[value]
        if len(behind) != 1:
            return None
        value = behind[0].output[0]
    return kernels[value]
