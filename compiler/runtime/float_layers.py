"""Layers that stay float in ONNX Runtime although quantizers stand around them.

Its optimizer ``WeightBiasQuantization`` (since 1.21, at every level of optimization but none) takes any Conv,
ConvTranspose or Gemm between two quantizers for a layer that was meant to compute in integers:

    DequantizeLinear → layer(float weight, bias) → (Relu | Clip)* → QuantizeLinear

It rounds the weight to int8 with one scale for the whole tensor, which ruins a layer that stayed float because it
bears no rounding. Before it looks, other optimizers fold constants into the layer (Add, Mul, BatchNormalization, Pad),
make a Gemm of MatMul and Add, drop what does nothing and carry quantizers over movements of data. So whatever stands
alone in line between the quantizers and the layer counts as gone here:

    DequantizeLinear → … → layer → … → QuantizeLinear      each … a chain of nodes with one computed input

A Clip without limits in front of such a layer changes nothing, and the optimizer does not look through it. It costs one
pass over what the layer reads, at most.
"""

from __future__ import annotations

from graphpress.ir import DataType, Editor, Model, Node, Value, graphs, input_of, is_constant, is_standard

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""What is taken for an integer layer; a MatMul once it has become a Gemm."""

SHIELD = "Clip"
DATA, WEIGHT = 0, 1


def keep_float_layers(model: Model) -> int:
    """Put a Clip without limits before every float layer that ONNX Runtime would quantize by itself, in place.

    Args:
        model: with its quantization written in Q/DQ nodes.

    Returns:
        How many layers were shielded.
    """
    edit, count = Editor(model), 0
    for graph in graphs(model):
        for node in [node for node in graph if is_at_risk(node)]:
            data = node.inputs[DATA]
            assert data is not None
            shield = edit.add_node(SHIELD, [data], before=node, name=f"{node.name or node.op_type}_float")
            edit.copy_type(data, shield.outputs[0])
            edit.set_input(node, DATA, shield.outputs[0])
            count += 1
    return count


def is_at_risk(node: Node) -> bool:
    """Whether ONNX Runtime would quantize the weight of this float layer."""
    return (
        is_standard(node, *LAYERS)
        and decoder_of(node.inputs[DATA]) is not None
        and any(goes_to_integers(value) for value in node.outputs)
        and _has_float_weight(node)
    )


def _has_float_weight(node: Node) -> bool:
    """Whether the weight is a float32 constant, or becomes one when ONNX Runtime folds constants."""
    weight = input_of(node, WEIGHT)
    return weight is not None and weight.dtype in (DataType.FLOAT, None) and _is_known(weight)


def _is_known(value: Value) -> bool:
    """Whether a value follows from constants; ONNX Runtime folds no DequantizeLinear."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if is_constant(value):
            continue
        node = value.producer()
        if node is None or not node.inputs or is_standard(node, "DequantizeLinear"):
            return False
        waiting.extend(source for source in node.inputs if source is not None)
    return True


def decoder_of(value: Value | None) -> Node | None:
    """The DequantizeLinear that a value comes from, but for what ONNX Runtime may fold or move; None without one."""
    while value is not None and (node := value.producer()) is not None:
        if is_standard(node, "DequantizeLinear"):
            return node
        value = None if is_standard(node, SHIELD, *LAYERS) else _only_input(node)
    return None


def goes_to_integers(value: Value) -> bool:
    """Whether a value is quantized, but for what ONNX Runtime may fold or move."""
    waiting = [value]
    while waiting:
        for use in waiting.pop().uses():
            if is_standard(use.node, "QuantizeLinear"):
                return True
            if not is_standard(use.node, *LAYERS) and _only_input(use.node) is not None:
                waiting.extend(use.node.outputs)
    return False


def _only_input(node: Node) -> Value | None:
    """The one input of a node that is computed; None where there are more, or none."""
    computed = [value for value in node.inputs if value is not None and not is_constant(value)]
    return computed[0] if len(computed) == 1 else None
