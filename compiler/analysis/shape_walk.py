"""Complete shapes node by node where inference over the whole graph did not complete.

One walk in graph order: shape arithmetic (small tensors that depend on shapes and constants only) is evaluated, and
each node whose result is still unknown is inferred again with the values its inputs are now known to have.
Works on the protobuf form, in which shape inference runs anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from graphpress.analysis.reference import LARGEST, Types, compute_node, infer_node, static_dims, type_of
from graphpress.ir import Dims
from graphpress.ir.values import STANDARD_DOMAINS
from graphpress.ops import lookup


def complete(proto: onnx.ModelProto, types: Types) -> Types:
    """Types of more values of the main graph than whole-graph inference found.

    Args:
        proto: the model, not changed.
        types: what is known, by value name.
    """
    walk = _Walk(proto, dict(types))
    for node in proto.graph.node:
        walk.visit(node)
    return walk.types


@dataclass
class _Walk:
    model: onnx.ModelProto
    types: Types
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        overridable = {value.name for value in self.model.graph.input}
        for tensor in self.model.graph.initializer:
            self.types.setdefault(tensor.name, onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims)))
            if tensor.name not in overridable and math.prod(tensor.dims) <= LARGEST:
                self.values[tensor.name] = numpy_helper.to_array(tensor)

    def visit(self, node: onnx.NodeProto) -> None:
        """Evaluate the node if it is shape arithmetic, else infer it where its result is unknown."""
        if node.domain not in STANDARD_DOMAINS:
            return
        results = self._evaluate(node)
        if results is not None:
            for name, array in zip(node.output, results, strict=False):
                self.values[name] = array
                self.types[name] = type_of(array)
        elif any(static_dims(self.types.get(name)) is None for name in node.output if name):
            self._infer(node)

    def _evaluate(self, node: onnx.NodeProto) -> list[np.ndarray] | None:
        if node.op_type in ("Shape", "Size"):
            return _shape_or_size(node, static_dims(self.types.get(node.input[0])))
        spec = lookup(node.op_type)
        if spec is None or not spec.foldable or (not node.input and node.op_type != "Constant"):
            return None
        names = {name for name in node.input if name}
        feed = {name: self.values[name] for name in names if name in self.values}
        if len(feed) < len(names) or any(array.dtype.kind not in "iubf" for array in feed.values()):
            return None
        results = compute_node(node, feed, self.model.opset_import, self.model.ir_version)
        usable = results is not None and all(node.output) and all(result.dtype.kind in "iubf" for result in results)
        return results if usable else None

    def _infer(self, node: onnx.NodeProto) -> None:
        if any(name not in self.types for name in node.input if name) or any(
            attribute.HasField("g") for attribute in node.attribute
        ):
            return
        inferred = infer_node(node, self.types, self.values, self.model.opset_import, self.model.ir_version)
        self.types |= {name: proto for name, proto in inferred.items() if static_dims(self.types.get(name)) is None}


def _shape_or_size(node: onnx.NodeProto, dims: Dims | None) -> list[np.ndarray] | None:
    if dims is None:
        return None
    if node.op_type == "Size":
        return [np.array(math.prod(dims), np.int64)]
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    return [np.array(dims[bounds.get("start", 0) : bounds.get("end")], np.int64)]
