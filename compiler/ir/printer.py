"""A stable text form of a graph, for people and for golden tests: one line a node, encodings beside the names.

graph main (input: float32[N, 3, 32, 32]) -> (logits: float32[N, 10])
  conv1 = Conv(input:uint8, w:int8/0, b) {kernel_shape=[3, 3]} as int8 -> float32[N, 16, 32, 32]
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphpress.ir.encoding import Encoding, compute_request, float_type, output_encoding, read_encoding
from graphpress.ir.long_lists import StoredList
from graphpress.ir.types import Attr, AttributeType, DataType, Function, Graph, Model, Node, TensorProtocol, Value
from graphpress.ir.values import count_nodes, is_constant
from graphpress.printable import printable

FEW_ELEMENTS = 8


def print_model(model: Model) -> str:
    """The whole model: operator sets, the graph, its subgraphs in place, then functions."""
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in sorted(model.opset_imports.items()))
    lines = [f"model ir {model.ir_version}, opset {opsets}, {count_nodes(model)} nodes"]
    lines += _graph_lines(model.graph, f"graph {model.graph.name or 'main'}", 0)
    for function in model.functions.values():
        lines += _graph_lines(function, f"function {function.domain}::{function.name}", 0)
    return "\n".join(map(printable, lines)) + "\n"


def _graph_lines(graph: Graph | Function, title: str, depth: int) -> Iterator[str]:
    margin = "  " * depth
    inputs = ", ".join(f"{value.name}: {_type(value)}" for value in graph.inputs)
    outputs = ", ".join(f"{value.name}{_marked(output_encoding(value))}: {_type(value)}" for value in graph.outputs)
    yield f"{margin}{title} ({inputs}) -> ({outputs})"
    if isinstance(graph, Graph):
        for value in graph.initializers.values():
            yield f"{margin}  const {value.name}: {_type(value)}{_contents(value.const_value)}"
    for node in graph:
        yield f"{margin}  {_node_line(node)}"
        for name, attribute in sorted(node.attributes.items()):
            if attribute.is_ref():
                continue
            if attribute.type == AttributeType.GRAPH:
                yield from _subgraph_lines(name, attribute.as_graph(), depth)
            elif attribute.type == AttributeType.GRAPHS:
                for index, subgraph in enumerate(attribute.as_graphs()):
                    yield from _subgraph_lines(f"{name}[{index}]", subgraph, depth)


def _subgraph_lines(name: str, graph: Graph, depth: int) -> Iterator[str]:
    return _graph_lines(graph, f"{name} = graph {graph.name or ''}".rstrip(), depth + 2)


def _node_line(node: Node) -> str:
    results = ", ".join(value.name or "_" for value in node.outputs)
    operands = ", ".join(_operand(node, index) for index in range(len(node.inputs)))
    kind = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    types = ", ".join(_type(value) for value in node.outputs)
    return f"{results} = {kind}({operands}){_attributes(node)}{_arithmetic(node)} -> {types}"


def _arithmetic(node: Node) -> str:
    """What the node was asked to compute in, and the float type of the rest where that is another."""
    request, rest = compute_request(node), float_type(node)
    parts = f" as {request}" if request else ""
    return f"{parts} in {rest}" if rest and rest != request else parts


def _operand(node: Node, index: int) -> str:
    value = node.inputs[index]
    return "_" if value is None else f"{value.name}{_marked(read_encoding(node, index))}"


def _marked(encoding: Encoding | None) -> str:
    return "" if encoding is None else f":{encoding.label}"


def _attributes(node: Node) -> str:
    parts = [
        f"{name}={_attribute(attribute)}"
        for name, attribute in sorted(node.attributes.items())
        if not isinstance(attribute, Attr) or attribute.type not in (AttributeType.GRAPH, AttributeType.GRAPHS)
    ]
    return f" {{{', '.join(parts)}}}" if parts else ""


def _attribute(attribute: Attr) -> str:
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    if attribute.type == AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        return f"{_dtype(tensor.dtype)}{list(tensor.shape)}{_contents(tensor)}"
    if attribute.type == AttributeType.FLOAT:
        return f"{attribute.as_float():.6g}"
    if isinstance(attribute, StoredList):
        return f"{attribute.type.name.lower()}[{len(attribute.value)}]"
    if attribute.type == AttributeType.FLOATS:
        return "[" + ", ".join(f"{number:.6g}" for number in attribute.as_floats()) + "]"
    if attribute.type == AttributeType.INTS:
        return str(list(attribute.as_ints()))
    return str(attribute.value)


def _contents(tensor: TensorProtocol | None) -> str:
    """The elements of a small constant, nothing for a large one."""
    if tensor is None or tensor.size > FEW_ELEMENTS:
        return ""
    array = tensor.numpy()
    is_float = np.issubdtype(array.dtype, np.floating)
    parts = [f"{element:.6g}" if is_float else str(element) for element in array.reshape(-1).tolist()]
    return f" = {parts[0] if array.ndim == 0 else '[' + ', '.join(parts) + ']'}"


def _type(value: Value) -> str:
    tensor = value.const_value if value.const_value is not None and is_constant(value) else None
    dtype = value.dtype if tensor is None else tensor.dtype
    shape = value.shape if tensor is None else tensor.shape
    name = "?" if dtype is None else _dtype(dtype)
    if shape is None:
        return name if value.type is None or dtype is not None else str(value.type)
    return f"{name}[{', '.join(map(_dim, shape))}]"


def _dtype(dtype: DataType) -> str:
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(dtype.name, dtype.name.lower())


def _dim(dim: object) -> str:
    return str(dim) if isinstance(dim, int) else str(getattr(dim, "value", dim) or "?")
