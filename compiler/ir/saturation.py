"""Activations that do what the saturating quantizer after them does anyway.

quantize(clip(x, low, high)) = quantize(x)      where low and high land on the ends of the integer grid, or beyond
"""

from __future__ import annotations

import numpy as np

from graphpress.ir.edit import Editor
from graphpress.ir.encoding import (
    encoding_of,
    integer_bounds,
    output_encoding,
    quantize_array,
    read_encoding,
    static_affine,
)
from graphpress.ir.types import Model, Node
from graphpress.ir.values import graphs, input_of, is_standard, scalar


def absorb_activations(model: Model) -> int:
    """Drop each Relu or Clip whose only effect is that of the saturating quantizer after it, in place.

    Quantizing to [qmin, qmax] clamps; when the activation's bounds themselves land on qmin and qmax (or outside),
    quantize(activation(x)) = quantize(x) exactly.

    Returns:
        How many were dropped.
    """
    edit, count = Editor(model), 0
    for graph in graphs(model):
        for node in list(graph):
            if is_standard(node, "Relu", "Clip") and _is_saturation(node):
                before, after = node.inputs[0], node.outputs[0]
                assert before is not None
                edit.replace(after, before)
                edit.remove(node)
                count += 1
    return count


def _is_saturation(node: Node) -> bool:
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.producer() is None or before.is_graph_output() or len(before.uses()) != 1:
        return False
    encoding = static_affine(encoding_of(after))
    if encoding is None or encoding.axis is not None or encoding_of(before) is not None:
        return False
    if any(read_encoding(use.node, use.idx) != encoding for use in after.uses()):
        return False
    if after.is_graph_output() and output_encoding(after) != encoding:
        return False
    bounds = _clamp_bounds(node)
    if bounds is None:
        return False
    low, high = quantize_array(np.array(bounds, np.float32), encoding).astype(np.int64)
    return (low, high) == integer_bounds(encoding.dtype)


def _clamp_bounds(node: Node) -> tuple[float, float] | None:
    infinity = float(np.finfo(np.float32).max)
    if node.op_type == "Relu":
        return 0.0, infinity
    limits = []
    for index, default in ((1, -infinity), (2, infinity)):
        value = input_of(node, index)
        limit = default if value is None else scalar(value)
        if limit is None:
            return None
        limits.append(limit)
    attributes = node.attributes
    low = attributes["min"].as_float() if "min" in attributes else limits[0]
    high = attributes["max"].as_float() if "max" in attributes else limits[1]
    return low, high
