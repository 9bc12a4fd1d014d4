"""Concatenations between quantizers in half precision, which ONNX Runtime does not load.

Its optimizer makes integers of a Concat between quantizers, whatever the type of their scales (seen in 1.32):

    DequantizeLinear, … → Concat → QuantizeLinear      becomes      QLinearConcat, whose scales are float32 only

The session then ends in a type error. In float32 the same Concat loads, and moves the same integers. TensorRT, for
which such models are, makes the same layers of both (seen in engines of tensorrt_rtx 1.7): it concatenates integers.
"""

from __future__ import annotations

from graphpress.ir import DataType, Model, Node, Value, graphs, is_standard, present_outputs
from graphpress.ir.encoding import float_type, output_encoding, read_encoding, set_float_type
from graphpress.runtime.float_layers import decoder_of, goes_to_integers


def widen_concats(model: Model) -> int:
    """Let every Concat that reads and makes encoded values alone compute in float32, in place.

    Args:
        model: with its encodings and float types in annotations.

    Returns:
        How many there were.
    """
    nodes = [node for graph in graphs(model) for node in graph if float_type(node) and _is_between_quantizers(node)]
    for node in nodes:
        set_float_type(node, None)
    return len(nodes)


def has_half_concats(model: Model) -> bool:
    """Whether a model in Q/DQ nodes still has a Concat that keeps ONNX Runtime from loading it."""
    return any(
        is_standard(node, "Concat")
        and all(_is_decoded_half(value) for value in node.inputs)
        and any(goes_to_integers(value) for value in node.outputs)
        for graph in graphs(model)
        for node in graph
    )


def _is_decoded_half(value: Value | None) -> bool:
    decoder = decoder_of(value)
    scale = None if decoder is None else decoder.inputs[1]
    return scale is not None and scale.dtype == DataType.FLOAT16


def _is_between_quantizers(node: Node) -> bool:
    if not is_standard(node, "Concat") or any(read_encoding(node, index) is None for index in range(len(node.inputs))):
        return False
    (result,) = present_outputs(node)
    outside = not result.is_graph_output() or output_encoding(result) is not None
    return outside and all(read_encoding(use.node, use.idx) is not None for use in result.uses())
