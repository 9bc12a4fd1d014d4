"""Nodes that move data and compute nothing: as other views of the same memory where that can be, else as one copy."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.layout import reshaped, reshaped_plane, transposed
from graphpress.backends.tvm.lowering.open_axes import open_node_error
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.ir import Node, NodeView, constant, input_of

TRAINING = 2
"""The input of a Dropout that says whether it drops anything."""


def _transpose(node: Node, lowering: Lowering) -> None:
    """Nothing moves: the same memory, its axes in another order."""
    result = node.outputs[0]
    rank = len(shape_of(result))
    permutation = NodeView.of(node).integers("perm") or tuple(reversed(range(rank)))
    source, encoding = lowering.moved(node)
    order = transposed(source.order, permutation)
    lowering.bind(result, encoding, order, source.memory, source.plane)


def _reshape(node: Node, lowering: Lowering) -> None:
    """The same memory where no axis lies otherwise in it; else a copy without gaps comes before."""
    result = node.outputs[0]
    (source, encoding), after = lowering.moved(node), shape_of(result)
    if (order := reshaped(source.shape, source.order, source.plane, after)) is None:
        source = lowering.without_gaps(source, source.codes)
        if (order := reshaped(source.shape, source.order, source.plane, after)) is None:
            raise open_node_error(node, "it joins an open axis with others that are slower")
    plane = reshaped_plane(source.plane, after, order)
    lowering.bind(result, encoding, order, source.memory, plane)


def _identity(node: Node, lowering: Lowering) -> None:
    """The same value under another name."""
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise refused(node, "more than its first result is read")
    training = input_of(node, TRAINING) if node.op_type == "Dropout" else None
    if training is not None and ((known := constant(training)) is None or np.any(known)):
        raise refused(node, "it drops values at random")
    source, encoding = lowering.moved(node)
    lowering.bind(node.outputs[0], encoding, source.order, source.memory, source.plane)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(("Dropout", "Identity"), _identity),
        **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
        "Transpose": _transpose,
    }
)
"""Rules by operator."""
