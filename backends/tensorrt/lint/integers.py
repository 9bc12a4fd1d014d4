"""Constants in int8 that the builder refuses: "Quantized constant is only allowed before DQ"."""

from __future__ import annotations

from collections.abc import Iterator

from graphpress.backends.tensorrt.integer_constants import integer_constants, obstacles
from graphpress.backends.tensorrt.lint.device import Device
from graphpress.ir import Model, Node
from graphpress.lint import Finding, fatal, settled_nodes


def integer_constant_findings(model: Model, device: Device) -> Iterator[Finding]:
    """Nodes that read a constant in int8, or a part of it, and have no form that TensorRT takes."""
    settled = settled_nodes(model) if device.before_folding else frozenset[Node]()
    for value in integer_constants(model):
        for node in obstacles(value):
            if node not in settled:
                why = f"reads {value.name}, a constant in int8, which {device.title} takes at DequantizeLinear alone"
                yield fatal(node, why, "dequantize it first, or store it in int32 or float")
