"""Shape arithmetic whose operands are known, evaluated before it becomes layers.

What an exporter expresses as Shape, Gather, Concat is a list of numbers where the shape is fixed, and many layers take
numbers only. Small integer, boolean and float32 constants are evaluated by ONNX's reference implementation; larger
ones, other types (a quantized weight has its own layer) and anything random are left to TensorRT.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphpress.analysis.reference import LARGEST, compute_node
from graphpress.ir import Graph, Model, Node, Value, opset_of, subgraphs_of, to_proto
from graphpress.ops.table import lookup

_TYPES = ("int64", "int32", "bool", "float32")
_IR_VERSION = 10
_ENCODES = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


def evaluate(node: Node, operands: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """The results of a node whose operands are ``operands`` (None where absent), or None where it is left alone."""
    spec = lookup(node.op_type, node.domain)
    if spec is None or not spec.foldable or node.op_type in _ENCODES or any(True for _ in subgraphs_of(node)):
        return None
    given = [array for array in operands if array is not None]
    if not given or not all(_is_small(array) for array in given) or not all(value.name for value in node.outputs):
        return None
    results = _compute(node, operands)
    return results if results is not None and all(_is_small(array) for array in results) else None


def _is_small(array: np.ndarray) -> bool:
    return array.dtype.name in _TYPES and array.size <= LARGEST


def _compute(node: Node, operands: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    inputs = [None if array is None else Value(name=f"input_{index}") for index, array in enumerate(operands)]
    outputs = [Value(name=f"output_{index}") for index in range(len(node.outputs))]
    alone = Node(node.domain, node.op_type, inputs, list(node.attributes.values()), outputs=outputs)
    given = [value for value in inputs if value is not None]
    graph = Graph(given, outputs, nodes=[alone], opset_imports={"": opset_of(node) or 1}, name="one_node")
    feed = {f"input_{index}": array for index, array in enumerate(operands) if array is not None}
    proto = to_proto(Model(graph, ir_version=_IR_VERSION))
    return compute_node(proto.graph.node[0], feed, proto.opset_import, _IR_VERSION)
