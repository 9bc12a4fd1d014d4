"""Types of tensors that the release or the processor has not."""

from __future__ import annotations

from collections.abc import Iterator

from graphpress.backends.tensorrt.lint.device import Device
from graphpress.ir import Model, Node, Value, graphs, is_standard
from graphpress.lint import Finding, Rule, degraded, fatal, settled_nodes, type_rule
from graphpress.lint.types import types_of

IMPORTED_AS_FLOAT32 = "float64"

CARRIES_UINT8 = ("Cast", "CastLike", "QuantizeLinear", "DequantizeLinear")
"""What may read or write uint8: casts at the edge of the network; Q/DQ have a rule of their own."""


def _missing(where: Node | Value, dtype: str, device: Device) -> Finding | None:
    """The finding about a tensor of this type."""
    if dtype == IMPORTED_AS_FLOAT32:
        return degraded(where, "is float64, which TensorRT computes in float32", "export the model in float32")
    lacking = device.lacks_type(dtype)
    if lacking == "release":
        return fatal(where, f"{device.title} has no tensors of {dtype}", _instead(dtype, device))
    if lacking == "hardware":
        reason = f"{device.target.name} (compute capability {', '.join(device.platform.capabilities)}) has no {dtype}"
        return fatal(where, reason, _instead(dtype, device))
    return None


type_findings: Rule[Device] = type_rule(_missing)
"""Each tensor of a type that is not there, called by the node that makes it or first reads it."""


def uint8_findings(model: Model, device: Device) -> Iterator[Finding]:
    """Nodes that would have to compute in uint8, which is a type of tensors at the edge of the network alone."""
    settled = settled_nodes(model) if device.before_folding else frozenset[Node]()
    for graph in graphs(model):
        for node in graph:
            if node not in settled and not is_standard(node, *CARRIES_UINT8) and "uint8" in types_of(node):
                yield fatal(node, f"{device.title} does not compute in uint8", "cast it to int32 or float first")


def _instead(dtype: str, device: Device) -> str:
    if dtype.startswith(("float8", "float4", "int4")):
        return "quantize to int8" if "int8" in device.target.kernels else "leave it float"
    if dtype.startswith("bfloat"):
        return "use float16"
    if dtype.startswith(("int", "uint")):
        return "quantize to int8, or cast the tensor to int32"
    return "keep such data outside the model"
