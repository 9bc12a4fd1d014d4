"""Types of tensors: those that the release or the processor has not, and operands that differ where they must agree."""

from __future__ import annotations

from collections.abc import Iterator

from graphpress.backends.tensorrt.lint.device import FLOAT_TYPES, Device
from graphpress.backends.tensorrt.lint.finding import Finding, degraded, fatal
from graphpress.backends.tensorrt.lint.settled import settled_nodes
from graphpress.ir import Model, Node, Value, graphs, is_standard, subgraphs_of
from graphpress.ir.signatures import signature_of

NAMES = {"float": "float32", "double": "float64"}

IMPORTED_AS_FLOAT32 = "float64"

CARRIES_UINT8 = ("Cast", "CastLike", "QuantizeLinear", "DequantizeLinear")
"""What may read or write uint8: casts at the edge of the network; Q/DQ have a rule of their own."""


def type_findings(model: Model, device: Device) -> Iterator[Finding]:
    """Each tensor of a type that is not there, called by the node that makes it or first reads it."""
    settled = settled_nodes(model) if device.before_folding else frozenset[Node]()
    for graph in graphs(model):
        for value in graph.inputs:
            yield from _value(value, value, device)
        for node in graph:
            if node in settled:
                continue
            for value in (*_constants(node), *node.outputs):
                yield from _value(value, node, device)
            if not is_standard(node, *CARRIES_UINT8) and "uint8" in _types(node):
                yield fatal(node, f"{device.title} does not compute in uint8", "cast it to int32 or float first")


def _constants(node: Node) -> Iterator[Value]:
    return (value for value in node.inputs if value is not None and value.is_initializer())


def _value(value: Value, where: Node | Value, device: Device) -> Iterator[Finding]:
    dtype = type_name(value)
    if not dtype:
        return
    if dtype == IMPORTED_AS_FLOAT32:
        yield degraded(where, "is float64, which TensorRT computes in float32", "export the model in float32")
        return
    lacking = device.lacks_type(dtype)
    if lacking == "release":
        yield fatal(where, f"{device.title} has no tensors of {dtype}", _instead(dtype, device))
    elif lacking == "hardware":
        reason = f"{device.target.name} (compute capability {', '.join(device.platform.capabilities)}) has no {dtype}"
        yield fatal(where, reason, _instead(dtype, device))


def _instead(dtype: str, device: Device) -> str:
    if dtype.startswith(("float8", "float4", "int4")):
        return "quantise to int8" if "int8" in device.target.kernels else "leave it float"
    if dtype.startswith("bfloat"):
        return "use float16"
    if dtype.startswith(("int", "uint")):
        return "quantise to int8, or cast the tensor to int32"
    return "keep such data outside the model"


def _types(node: Node) -> list[str]:
    return [type_name(value) for value in (*node.inputs, *node.outputs) if value is not None]


def type_name(value: Value) -> str:
    """The element type by the names of targets; "" where it is not known."""
    dtype = value.dtype
    if dtype is None and value.const_value is not None:
        dtype = value.const_value.dtype
    name = "" if dtype is None else dtype.name.lower()
    return NAMES.get(name, name)


# -- operands that differ -------------------------------------------------------------------------------------


def mixture_findings(model: Model, device: Device) -> Iterator[Finding]:
    """Nodes whose operands should have one type, and have two."""
    for graph in graphs(model):
        for node in graph:
            differing = _differing(node)
            if differing:
                yield fatal(
                    node,
                    f"its operands are {' and '.join(differing)}, and TensorRT converts none by itself",
                    "cast one of them, or give the nodes around it one float type",
                )


def _differing(node: Node) -> tuple[str, ...]:
    """Float types of inputs that the standard gives one type, where there are several."""
    signature = signature_of(node)
    if signature is None or next(subgraphs_of(node), None) is not None:
        return ()
    seen: dict[str, set[str]] = {}
    for index, value in enumerate(node.inputs):
        name = "" if value is None else type_name(value)
        if name in FLOAT_TYPES:
            formal = signature.inputs[min(index, len(signature.inputs) - 1)]  # the last one may stand for many
            seen.setdefault(formal.variable, set()).add(name)
    return next((tuple(sorted(types)) for types in seen.values() if len(types) > 1), ())
