"""Products that quantization was meant for and that run in float, and activations cut off from them.

    conv(DQ(q), DQ(w), bias)    with  scale(w)  along the output channels,  q and w of one type,  bias in float

computes in integers. Weights alone may be narrow, too: they are small in memory, and expanded to float.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphpress.backends.tensorrt.integer_products import fallback_reasons
from graphpress.backends.tensorrt.lint.device import Device
from graphpress.backends.tensorrt.operands import Operand, Q, is_product, operands_of, spec_of
from graphpress.ir import Model, Node, graphs, is_standard, readers
from graphpress.lint import Finding, degraded

FUSED_ACTIVATIONS = ("Clip", "LeakyRelu", "Relu")
"""Activations that the kernel before them computes on its accumulator."""

WEIGHT_ONLY = ("MatMul", "Gemm")
"""Products with kernels that read narrow weights beside float data."""


def integer_findings(model: Model, device: Device) -> Iterator[Finding]:
    """Every such place; none where the accelerator quantizes by itself."""
    if device.platform.dla:
        return
    for graph in graphs(model):
        for node in graph:
            if is_product(node) and (spec := spec_of(node)) is not None and spec.quantization.weight is not None:
                yield from _product(node, device.platform.product)
                yield from _cut_off(node)


def _product(node: Node, product: str) -> Iterator[Finding]:
    operands = [operand for _, operand in operands_of(node)]
    quantized = [operand for operand in operands if operand.decoder is not None]
    if not quantized or len(operands) < 2:
        return
    if len(quantized) < len(operands) and all(operand.stored for operand in quantized):
        yield from _weights_alone(node, quantized[0])
    elif not all(operand.blocked for operand in quantized):
        yield from fallback_reasons(node, product)


def _weights_alone(node: Node, weight: Operand) -> Iterator[Finding]:
    if node.op_type not in WEIGHT_ONLY:
        # Seen: a kernel before it expands the weights to float16.
        yield degraded(
            node,
            "its weights are quantized and its data is float: TensorRT expands them to float before it runs",
            "quantize its data too, or leave it float",
        )
    elif (weight.dtype == "int4" and not weight.blocked) or (weight.dtype == "int8" and weight.blocked):
        # Seen: expanded to float16 by a kernel of its own; int4 in blocks and int8 without stay as they are.
        form = "without blocks" if weight.dtype == "int4" else "in blocks"
        yield degraded(
            node,
            f"its {weight.dtype} weights {form} are expanded to float before it runs",
            "quantize to int4 in blocks, or to int8 with one scale a channel",
        )


def _cut_off(node: Node) -> Iterator[Finding]:
    """Between a product and its activation: Q, DQ. What others read too has to be written out anyway."""
    encoders = readers(node.outputs[0])
    if len(encoders) != 1 or not is_standard(encoders[0], Q):
        return
    behind = {reader for decoder in readers(encoders[0].outputs[0]) for reader in readers(decoder.outputs[0])}
    if len(behind) != 1:
        return
    (activation,) = behind
    if is_standard(activation, *FUSED_ACTIVATIONS):
        # Seen: a kernel of its own for the activation.
        yield degraded(
            encoders[0],
            f"stands between {node.op_type} and {activation.op_type}, which one kernel would compute",
            f"quantize behind {activation.op_type}",
        )
