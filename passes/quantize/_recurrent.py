"""Recurrent layers: integer weights, and ranges of what they read found at run time.

A state is a new value at each step, and its range the widest of all; found step by step it fits. Weights take one scale
an output of a gate in a layer of one direction, one a direction in a layer of two.
"""

from __future__ import annotations

import numpy as np

from graphpress.ir import Graph, Node, Refusal, constant, input_of, int_attribute, is_standard
from graphpress.ir.encoding import dynamic_encoding, override_use, read_encoding, request_compute
from graphpress.manager.contract import Context
from graphpress.passes.quantize._encode import encode_use, weight_encoding
from graphpress.passes.quantize._ranges import has_weight_scale
from graphpress.targets import QuantizationPolicy

WEIGHTS = (1, 2)
"""Inputs that hold the weights of data and of state, ``[directions, gates · hidden, inputs]``."""


def encode_recurrent(
    graph: Graph, policy: QuantizationPolicy, context: Context, *, per_channel: bool
) -> tuple[int, list[Refusal]]:
    """Encode recurrent layers as far as the target has kernels that find the range of their state.

    Returns:
        How many there were, and why others stay float.
    """
    count, refusals = 0, list[Refusal]()
    for node in graph:
        if node.op_type not in policy.dynamic_recurrences or not is_standard(node):
            continue
        if read_encoding(node, WEIGHTS[0]) is not None:
            continue
        refusal = context.exclusion(node) or _refusal(node, policy)
        if refusal is not None:
            refusals.append(refusal)
        else:
            _encode(node, policy, per_channel=per_channel)
            count += 1
    return count, refusals


def _refusal(node: Node, policy: QuantizationPolicy) -> Refusal | None:
    for index in WEIGHTS:
        weight = constant(input_of(node, index))
        if weight is None:
            return Refusal.at(node, "its weight is computed at run time", "leave it float")
        if weight.dtype != np.float32:
            return Refusal.at(node, "does not compute in float32", "run to_float32 first")
        if not np.isfinite(weight).all():
            return Refusal.at(node, "its weight has infinite or undefined numbers", "check the model")
        if not has_weight_scale(weight, policy):
            return Refusal.at(node, f"its weights are so small that {policy.scales} holds no scale for them")
    if int_attribute(node, "layout", 0):
        return Refusal.at(node, "its batch comes before its steps (layout=1)", "export it with layout=0")
    return None


def _encode(node: Node, policy: QuantizationPolicy, *, per_channel: bool) -> None:
    override_use(node, 0, dynamic_encoding(policy.activations))
    for index in WEIGHTS:
        weight = constant(input_of(node, index))
        assert weight is not None
        axis = None if not per_channel else int(len(weight) == 1)
        encode_use(node, index, weight_encoding(weight, axis, policy))
    request_compute(node, "int8")
