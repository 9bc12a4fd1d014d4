"""Quantisation that came with the input model and stays as it is: grids that TensorRT does not read."""

from __future__ import annotations

from collections.abc import Iterator

from graphpress.backends.tensorrt.lint.device import Device
from graphpress.backends.tensorrt.lint.finding import Finding, fatal
from graphpress.ir import Model, graphs
from graphpress.ir.encoding import Quantized, read_encoding

FLOAT_BIAS = "int32"
"""A bias in int32 says the same in float."""

FIX = "start from the float model, or quantise it symmetrically to int8"


def pinned_findings(model: Model, device: Device) -> Iterator[Finding]:
    """Each value that the model itself says to quantise in a way that no legal spelling can say again."""
    if device.platform.dla:
        return
    for graph in graphs(model):
        for node in graph:
            for index, value in enumerate(node.inputs):
                encoding = None if value is None else read_encoding(node, index)
                if encoding is not None and encoding.pinned and (why := _why_not(encoding, device)):
                    yield fatal(value, why, FIX)


def _why_not(encoding: Quantized, device: Device) -> str | None:
    if any(encoding.zero_point):
        return f"came quantised with a zero-point that is not 0, and {device.title} reads symmetric grids only"
    if encoding.dtype == FLOAT_BIAS:
        return None
    if encoding.dtype == "uint8" or device.lacks_type(encoding.dtype):
        return f"came quantised to {encoding.dtype}, which {device.title} does not read"
    return None
