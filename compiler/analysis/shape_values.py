"""Evaluate shape arithmetic: small tensors that depend on shapes and constants only.

Works on the protobuf form, in which shape inference runs anyway.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from graphpress.ir.values import STANDARD_DOMAINS
from graphpress.ops import Dims, lookup
from onnx import numpy_helper

LARGEST = 1024
"""Elements of the largest tensor that is evaluated."""


def settle_shape_values(proto: onnx.ModelProto, shapes: Mapping[str, Dims]) -> int:
    """Turn what is known of the main graph's shape arithmetic into initialisers, in place.

    Args:
        proto: the model; nodes whose results are known are removed.
        shapes: static shapes by value name.

    Returns:
        How many values became constants.
    """
    graph = proto.graph
    public = {output.name for output in graph.output}
    values = _small_constants(graph)
    left, settled = [], 0
    for node in graph.node:
        results = _evaluate(node, values, shapes, proto.opset_import)
        if results is None:
            left.append(node)
            continue
        named = dict(zip(node.output, results, strict=False))
        values.update(named)
        if public.isdisjoint(node.output):
            graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in named.items())
            settled += len(named)
        else:
            left.append(node)
    if settled:
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in left]
        del graph.node[:]
        graph.node.extend(kept)
    return settled


def _small_constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    overridable = {value.name for value in graph.input}
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name not in overridable and math.prod(tensor.dims) <= LARGEST
    }


def _evaluate(
    node: onnx.NodeProto,
    values: Mapping[str, np.ndarray],
    shapes: Mapping[str, Dims],
    opsets: Sequence[onnx.OperatorSetIdProto],
) -> list[np.ndarray] | None:
    if node.domain not in STANDARD_DOMAINS:
        return None
    if node.op_type in ("Shape", "Size"):
        return _shape_or_size(node, shapes)
    spec = lookup(node.op_type)
    if spec is None or not spec.foldable or (not node.input and node.op_type != "Constant"):
        return None
    feed = {name: values[name] for name in node.input if name in values}
    if len(feed) < len({name for name in node.input if name}) or any(
        item.dtype.kind not in "iubf" for item in feed.values()
    ):
        return None
    return _run(node, feed, opsets)


def _shape_or_size(node: onnx.NodeProto, shapes: Mapping[str, Dims]) -> list[np.ndarray] | None:
    dims = shapes.get(node.input[0])
    if dims is None:
        return None
    if node.op_type == "Size":
        return [np.array(np.prod(dims, dtype=np.int64))]
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    return [np.array(dims[bounds.get("start", 0) : bounds.get("end")], np.int64)]


def _run(node: onnx.NodeProto, feed: Mapping[str, np.ndarray], opsets: Sequence[onnx.OperatorSetIdProto]) -> list[np.ndarray] | None:
    """One node through ONNX's reference implementation; None where that cannot run it or the result is large."""
    from onnx.reference import ReferenceEvaluator

    inputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in feed]
    outputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "one_node", inputs, outputs)
    try:
        results = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets)).run(None, dict(feed))
    except Exception:  # an operator that the reference does not run is simply not evaluated
        return None
    arrays = [np.asarray(result) for result in results]
    return arrays if all(array.size <= LARGEST and array.dtype.kind in "iubf" for array in arrays) else None
