"""From a placement and its ranges to annotations: activations, weights, biases."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

import numpy as np

from graphpress.analysis.linear import accumulator_encoding
from graphpress.ir import Editor, Node, constant, input_of, label
from graphpress.ir.encoding import (
    FLOAT,
    AffineEncoding,
    Encoding,
    encoding_of,
    integer_bounds,
    override_output,
    override_use,
    read_encoding,
    representable,
    set_encoding,
    static_affine,
)
from graphpress.ops import lookup
from graphpress.passes.quantize._placement import Placement, has_kernel_weight
from graphpress.passes.quantize._ranges import Range, activation_encoding
from graphpress.passes.quantize._weights import weight_use
from graphpress.targets import QuantizationPolicy


def encode_activations(placement: Placement, ranges: Mapping[str, Range], policy: QuantizationPolicy) -> None:
    """Encode every activation of the placement; float readers of a float node's value keep reading float.

    So does the world outside where the kernel that computes a graph output holds it in float before it rounds.
    """
    for value in placement.activations:
        encoding = activation_encoding(ranges[label(value)], policy)
        set_encoding(value, encoding)
        if placement.computes(value):
            if value.is_graph_output() and policy.residual_adds and placement.is_result(value, policy.float_results):
                override_output(value, FLOAT)
            continue
        for use in value.uses():
            if not placement.reads(use.node, use.idx):
                override_use(use.node, use.idx, FLOAT)
        if value.is_graph_output():
            override_output(value, FLOAT)


def encode_constants(node: Node, policy: QuantizationPolicy, per_channel: bool | None, placement: Placement) -> None:
    """Compute operators have one weight; neighbors may read small constants, which take one scale a tensor."""
    if node.op_type in policy.compute_ops:
        _encode_weight(node, policy, policy.per_channel if per_channel is None else per_channel, placement)
        return
    for index, value in enumerate(node.inputs):
        array = constant(value)
        if array is not None and array.dtype == np.float32 and node.op_type in policy.quantizable_neighbors:
            observed = (float(array.min()), float(array.max()))
            encode_use(node, index, activation_encoding(observed, policy), placement)


def _encode_weight(node: Node, policy: QuantizationPolicy, per_channel: bool, placement: Placement) -> None:
    spec = lookup(node.op_type)
    assert spec is not None
    assert spec.quantization.weight is not None
    assert spec.quantization.channel_axis is not None
    use = weight_use(node, spec.quantization.weight)
    array = None if use is None else constant(use.constant)
    if use is None or array is None or array.dtype != np.float32:
        return
    if encoding_of(use.constant) is not None and has_kernel_weight(node, use.constant, policy):
        return
    axis = use.order[spec.quantization.channel_axis(node, array.ndim)] if per_channel else None
    encode_use(use.node, use.index, weight_encoding(array, axis, policy), placement)


def encode_use(node: Node, index: int, encoding: Encoding, members: Container[Node] = ()) -> None:
    """The first reader of a constant gives it its encoding; others override it where they need another, or float.

    Args:
        node: what reads the constant.
        index: of its input.
        encoding: in which it reads it.
        members: nodes that read the constant in an encoding as well, or will get their own.
    """
    value = node.inputs[index]
    assert value is not None
    default = encoding_of(value)
    if default is not None:
        override_use(node, index, None if default == encoding else encoding)
        return
    set_encoding(value, encoding)
    if value.is_graph_output():
        override_output(value, FLOAT)
    for use in value.uses():
        if use.node not in members and (use.node, use.idx) != (node, index):
            override_use(use.node, use.idx, FLOAT)


def weight_encoding(array: np.ndarray, axis: int | None, policy: QuantizationPolicy) -> AffineEncoding:
    """Symmetric encoding of a weight, one scale per index of ``axis`` (None: one in all)."""
    top = integer_bounds(policy.weights)[1]
    if policy.reduced_range:
        top //= 2
    others = None if axis is None else tuple(other for other in range(array.ndim) if other != axis)
    largest = np.abs(array).max(axis=others).reshape(-1)
    scale = representable(np.where(largest > 0, largest / top, 1.0), policy.scales)
    return AffineEncoding(policy.weights, scale, axis=axis)


def encode_bias(node: Node, policy: QuantizationPolicy, edit: Editor) -> None:
    """Derive the bias's scale from those of input and weight; widen weight scales that would make it overflow."""
    spec = lookup(node.op_type)
    if (
        policy.bias != "int32"
        or node.op_type not in policy.compute_ops
        or spec is None
        or spec.quantization.bias is None
    ):
        return
    bias = constant(input_of(node, spec.quantization.bias))
    weight_index = spec.quantization.weight
    assert weight_index is not None
    source, weight = (static_affine(read_encoding(node, index)) for index in (0, weight_index))
    if bias is None or source is None or weight is None or source.axis is not None:
        return
    weight_scale = weight.scale.astype(np.float64).reshape(-1)
    smallest = np.abs(bias.astype(np.float64)).reshape(-1) / (float(source.scale) * 2.0**30)
    if np.any(weight_scale < (smallest if weight.axis is not None else smallest.max())):
        floor = smallest if weight.axis is not None else smallest.max(keepdims=True)
        weight_scale = np.maximum(weight_scale, floor).astype(np.float32).astype(np.float64)
        weight = replace(weight, scale=weight_scale.reshape(weight.scale.shape))
        override_use(node, weight_index, weight)
    own = edit.own_constant(node, spec.quantization.bias, bias.reshape(-1))
    set_encoding(own, accumulator_encoding(source, weight))
