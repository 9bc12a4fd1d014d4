"""Quantization that came with the input model and stays as it is: grids that TensorRT does not read in any form."""

from __future__ import annotations

from collections.abc import Iterator

from graphpress.backends.tensorrt.canonicalize import canonical_encoding
from graphpress.backends.tensorrt.lint.device import Device
from graphpress.ir import Model, Value, graphs
from graphpress.ir.encoding import Encoding, output_encoding, read_encoding, static_affine
from graphpress.lint import Finding, fatal

FIX = (
    "start from the float model, or quantize it anew to symmetric int8; in onnxruntime.quantization:"
    " activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, extra_options={'ActivationSymmetric': True}"
)


def pinned_findings(model: Model, device: Device) -> Iterator[Finding]:
    """Each value that the model itself quantizes in a way that no legal form can express."""
    for value, encoding in _readings(model):
        if encoding.imported and (why := _why_not(value, encoding, device)):
            yield fatal(value, why, FIX)


def _readings(model: Model) -> Iterator[tuple[Value, Encoding]]:
    """Every value that is read in an encoding, by a node or by the world outside."""
    for graph in graphs(model):
        for node in graph:
            for index, value in enumerate(node.inputs):
                if value is not None and (encoding := read_encoding(node, index)) is not None:
                    yield value, encoding
        for value in graph.outputs:
            if (encoding := output_encoding(value)) is not None:
                yield value, encoding


def _why_not(value: Value, encoding: Encoding, device: Device) -> str | None:
    legal = static_affine(canonical_encoding(encoding, value))
    if legal is None:
        return None
    if legal.zero_point.any():
        return f"came quantized with a zero-point that is not 0, and {device.title} reads symmetric grids only"
    if legal.dtype == "uint8" or device.lacks_type(legal.dtype):
        return f"came quantized to {legal.dtype}, which {device.title} does not read"
    return None
