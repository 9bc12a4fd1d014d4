"""One node through ONNX's reference implementation, where what comes out is small.

The reference computes whatever it is asked to: a ConstantOfShape, Expand, Tile, Pad or Range of a few bytes fills any
memory. So the sizes of the results are inferred first, and nothing is computed that is large or of unknown size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from graphpress.errors import reraise_resource_fault
from graphpress.ir import Dims
from graphpress.ir.values import STANDARD_DOMAINS

LARGEST = 1024
"""Elements of the largest tensor that is computed."""

SELECTING = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
"""Operators whose results have a size that depends on data, and are no larger than what they read."""

Types = dict[str, onnx.TypeProto]


def static_dims(proto: onnx.TypeProto | None) -> Dims | None:
    """The shape of a tensor type as integers, or None where any part of it is open, or no size."""
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    dims = proto.tensor_type.shape.dim
    is_known = all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)
    return tuple(dim.dim_value for dim in dims) if is_known else None


def is_negative(proto: onnx.TypeProto) -> bool:
    """Whether inference found a size below zero, as it does where a window is longer than what it slides over."""
    return any(dim.dim_value < 0 for dim in proto.tensor_type.shape.dim)


def infer_node(
    node: onnx.NodeProto,
    types: Mapping[str, onnx.TypeProto],
    values: Mapping[str, np.ndarray],
    opsets: Sequence[onnx.OperatorSetIdProto],
    ir_version: int,
) -> Types:
    """Types of the results of one node of the standard domain; empty where inference cannot follow it.

    Args:
        node: the node.
        types: of what it reads, by name.
        values: what is known of that, by name.
        opsets: as in the model.
        ir_version: of the model.
    """
    version = next((imported.version for imported in opsets if imported.domain in STANDARD_DOMAINS), 0)
    names = [name for name in node.input if name]
    try:
        return dict(
            onnx.shape_inference.infer_node_outputs(
                onnx.defs.get_schema(node.op_type, version),
                node,
                {name: types[name] for name in names},
                {name: numpy_helper.from_array(values[name], name) for name in names if name in values},
                opset_imports=list(opsets),
                ir_version=ir_version,
            )
        )
    except Exception as error:  # an operator that inference cannot follow stays unknown
        reraise_resource_fault(error)
        return {}


def compute_node(
    node: onnx.NodeProto,
    feed: Mapping[str, np.ndarray],
    opsets: Sequence[onnx.OperatorSetIdProto],
    ir_version: int,
) -> list[np.ndarray] | None:
    """The results of a node on numbers; None where the reference cannot compute it or something is too large.

    Args:
        node: a node of the standard domain, without subgraphs and random numbers.
        feed: what it reads, by name, each of at most ``LARGEST`` elements.
        opsets: as in the model.
        ir_version: of the model.
    """
    from onnx.reference import ReferenceEvaluator

    if not _is_small(node, feed, opsets, ir_version):
        return None
    inputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in feed]
    outputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "one_node", inputs, outputs)
    try:
        model = onnx.helper.make_model(graph, opset_imports=opsets)
        results = [np.asarray(result) for result in ReferenceEvaluator(model).run(None, dict(feed))]
    except Exception as error:  # an operator that the reference does not run is simply not evaluated
        reraise_resource_fault(error)
        return None
    return results if all(result.size <= LARGEST for result in results) else None


def _is_small(
    node: onnx.NodeProto,
    feed: Mapping[str, np.ndarray],
    opsets: Sequence[onnx.OperatorSetIdProto],
    ir_version: int,
) -> bool:
    if node.op_type in (*SELECTING, "Constant"):
        return True
    types = infer_node(node, {name: type_of(array) for name, array in feed.items()}, feed, opsets, ir_version)
    shapes = [static_dims(types.get(name)) for name in node.output if name]
    return all(dims is not None and math.prod(dims) <= LARGEST for dims in shapes)


def type_of(array: np.ndarray) -> onnx.TypeProto:
    """The type of an array, as ONNX writes it."""
    return onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
