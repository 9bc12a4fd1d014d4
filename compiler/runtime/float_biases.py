"""Biases of integer layers that stay float in ONNX Runtime.

``WeightBiasQuantization`` (see ``graphpress.runtime.float_layers``) rounds the float bias of a layer with an integer
weight to int32 as well, on the grid of its sums:

    DequantizeLinear → layer(DequantizeLinear, bias) → (Relu | Clip)* → QuantizeLinear      bias → rint(b / (s·S))·s·S

with the scales s of the data and S of the weight, in their own type. In half precision s·S vanishes or b / (s·S)
becomes infinite, and in any type a bias beyond 2³¹ steps wraps around: the layer computes nonsense. TensorRT, which
wants float biases, is not concerned, but whoever tries the model in ONNX Runtime is. Written apart, such a bias is not
matched:

    Conv(x, W, b)  =  Conv(x, W) + b        Gemm(x, W, b)  =  Gemm(x, W, [b])       with one row in place of a vector

TensorRT makes the same kernels of it (seen in the layers of engines of tensorrt_rtx 1.7).
"""

from __future__ import annotations

import numpy as np

from graphpress.ir import Editor, Model, Node, Value, constant, graphs, input_of, is_standard, producer, rank_of
from graphpress.runtime.float_layers import DATA, LAYERS, WEIGHT, decoder_of, goes_to_integers

BIAS = 2
LARGEST = 2.0**30
"""Steps of the grid that a bias may span: half of what int32 holds."""


def write_biases_apart(model: Model) -> int:
    """Write the float biases that ONNX Runtime would spoil so that it leaves them alone, in place.

    Args:
        model: with its quantization written in Q/DQ nodes.

    Returns:
        How many there were.
    """
    edit, count = Editor(model), 0
    for graph in graphs(model):
        for node in list(graph):
            layer, index = (producer(node.inputs[DATA], "MatMul"), 1) if is_standard(node, "Add") else (node, BIAS)
            if layer is None or not _is_spoilt(layer, input_of(node, index)):
                continue
            if node.op_type in ("Conv", "ConvTranspose"):
                _add_behind(edit, node)
            else:
                _make_a_row(edit, node, index)
            count += 1
    return count


def _is_spoilt(layer: Node, bias: Value | None) -> bool:
    """Whether a bias would be rounded to a grid that does not hold it."""
    array = constant(bias)
    if array is None or array.ndim != 1 or not is_standard(layer, *LAYERS):
        return False
    data, weight = (_scale_of(layer.inputs[index]) for index in (DATA, WEIGHT))
    if data is None or weight is None or not any(map(goes_to_integers, layer.outputs)):
        return False
    if data.dtype != np.float32 or weight.dtype != np.float32:
        return True
    step = float(data.min()) * (weight.reshape(-1) if weight.size == array.size else weight.min()).astype(float)
    return bool(np.any(np.abs(array) > LARGEST * step))


def _scale_of(value: Value | None) -> np.ndarray | None:
    """The scale of the integers that a value was dequantized from; None where it was not, or where that is unknown."""
    decoder = decoder_of(value)
    return None if decoder is None else constant(input_of(decoder, 1))


def _add_behind(edit: Editor, layer: Node) -> None:
    """Add the bias of a convolution to its result, which all that read it read then."""
    result, rank = layer.outputs[0], rank_of(layer.inputs[WEIGHT])
    bias = constant(layer.inputs[BIAS])
    assert bias is not None
    assert rank is not None
    name = layer.name or layer.op_type
    apart = edit.add_constant_for(layer, bias.reshape(-1, *(1,) * (rank - 2)), f"{name}_bias_apart")
    edit.put_behind(result, "Add", [apart], after=layer, name=f"{name}_bias")
    old = layer.inputs[BIAS]
    layer.resize_inputs(BIAS)
    edit.drop_if_unused(old)


def _make_a_row(edit: Editor, node: Node, index: int) -> None:
    """Let a node read its vector as a matrix of one row."""
    vector = constant(node.inputs[index])
    assert vector is not None
    edit.own_constant(node, index, vector.reshape(1, -1))
