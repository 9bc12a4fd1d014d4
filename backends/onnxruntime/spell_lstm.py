"""LSTMs whose range is found at run time, as the operator that ONNX Runtime has for them.

    LSTM(DequantizeLinear(DynamicQuantizeLinear(x)), DequantizeLinear(w), DequantizeLinear(r), …)
        =   DynamicQuantizeLSTM(x, wᵀ, rᵀ, …, scales)

whose products are those of integers; the state is quantized at each step as well, which the left side does not say.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpress.backends.onnxruntime.spell_dynamic import dynamic_quantizer, remove_with_decoders
from graphpress.ir import (
    Editor,
    Model,
    Node,
    Value,
    constant,
    graphs,
    input_of,
    int_attribute,
    is_standard,
    producer,
)
from graphpress.ir.encoding import AffineEncoding
from graphpress.ir.qdq import encoding_of_node

DOMAIN, OPERATOR = "com.microsoft", "DynamicQuantizeLSTM"
WEIGHTS = (1, 2)
LAST_OF_LSTM = 8
"""Inputs of an LSTM, peepholes last; the scales and zero-points of the weights follow."""


def spell_dynamic_lstms(model: Model) -> int:
    """Let LSTMs of dynamically quantized data and integer weights multiply the integers, in place.

    Args:
        model: with its quantization written in Q/DQ nodes.

    Returns:
        How many there were.
    """
    edit, count = Editor(model), 0
    for graph in graphs(model):
        for node in [node for node in graph if is_standard(node, "LSTM") and not int_attribute(node, "layout", 0)]:
            quantize, weights = dynamic_quantizer(node), [_weight(input_of(node, index)) for index in WEIGHTS]
            if quantize is not None and quantize.inputs[0] is not None and None not in weights:
                _spell(node, quantize.inputs[0], [weight for weight in weights if weight is not None], edit)
                count += 1
    if count:
        model.opset_imports.setdefault(DOMAIN, 1)
    return count


class _Weight(NamedTuple):
    decoder: Node
    codes: np.ndarray
    scale: np.ndarray


def _weight(value: Value | None) -> _Weight | None:
    """Codes ``[directions, inputs, gates]``, and scales by direction or ``[directions, gates]``."""
    decoder = producer(value, "DequantizeLinear")
    codes = None if decoder is None else constant(decoder.inputs[0])
    encoding = None if decoder is None else encoding_of_node(decoder)
    if decoder is None or codes is None or not isinstance(encoding, AffineEncoding) or encoding.block:
        return None
    scale = _by_direction(encoding, codes.shape)
    if scale is None or np.any(encoding.zero_point):
        return None
    return _Weight(decoder, np.ascontiguousarray(codes.swapaxes(1, 2)), np.ascontiguousarray(scale, np.float32))


def _by_direction(encoding: AffineEncoding, shape: tuple[int, ...]) -> np.ndarray | None:
    """The scales as the operator takes them; None where it takes none like these."""
    directions = shape[0]
    if encoding.axis is None or encoding.axis == 0:
        return np.broadcast_to(encoding.scale.reshape(-1), (directions,))
    return encoding.scale.reshape(1, -1) if encoding.axis == 1 and directions == 1 else None


def _spell(node: Node, data: Value, weights: list[_Weight], edit: Editor) -> None:
    name, inputs = node.name or node.op_type, [*node.inputs, *[None] * LAST_OF_LSTM][:LAST_OF_LSTM]
    inputs[0] = data
    for index, weight in zip(WEIGHTS, weights, strict=True):
        stem = weight.decoder.outputs[0].name or name
        inputs[index] = edit.add_constant_for(node, weight.codes, f"{stem}_turned")
        zeros = np.zeros(weight.scale.shape, weight.codes.dtype)
        inputs += [
            edit.add_constant_for(node, weight.scale, f"{stem}_scale"),
            edit.add_constant_for(node, zeros, f"{stem}_zero_point"),
        ]
    attributes = {key: attribute for key, attribute in node.attributes.items() if key != "layout"}
    made = edit.add_node(OPERATOR, inputs, attributes, before=node, domain=DOMAIN, outputs=len(node.outputs), name=name)
    for old, new in zip(node.outputs, made.outputs, strict=True):
        edit.copy_type(old, new)
        edit.replace(old, new)
    remove_with_decoders(node, edit)
    made.name = node.name
