"""Operators that the parser does not read, and operator sets beyond it.

A parser that does not know an operator looks for a plugin of that name, whatever its domain. A node whose operator
neither the parser nor the standard has is left alone, as somebody means a plugin, and so is one that asks for a plugin
by the attribute ``plugin_version`` or ``plugin_namespace``. An operator of another domain that is called like one that
the parser has would be taken for that, so that such a node is refused. TensorRT for RTX comes without plugins: there
only who asks for one by an attribute gets it. Functions are read from TensorRT 9 on.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from onnx import defs

from graphpress.backends.tensorrt.lint.device import Device, knowledge, version
from graphpress.ir import Node, opset_of
from graphpress.ir.foreign import RUNTIME_DOMAINS
from graphpress.ir.values import STANDARD_DOMAINS
from graphpress.lint import Remedy, Rule, operator_rule
from graphpress.lint.operators import Functions

MICROSOFT = "com.microsoft"
PLUGIN_ATTRIBUTES = ("plugin_version", "plugin_namespace")
FUNCTIONS_SINCE = "9.0"
SURGERY = "replace it by operators that TensorRT has (surgery), or write a plugin and set its attribute plugin_version"


def _unknown(node: Node, device: Device, functions: Functions) -> Remedy | None:
    """Why the parser does not read a node."""
    if (node.domain, node.op_type) in functions:
        if device.release >= version(FUNCTIONS_SINCE):
            return None
        return Remedy(f"{device.title} reads no functions", "inline them (onnx.inliner) before")
    if _is_plugin(node, device):
        return None
    if node.domain in ("", MICROSOFT) and node.op_type in device.microsoft_operators:
        return None
    if node.domain not in STANDARD_DOMAINS:
        return Remedy(_foreign(node, device), SURGERY)
    if node.op_type not in device.operators:
        return Remedy(f"{device.title} does not know {node.op_type}", _remedy(node, device))
    return None


operator_findings: Rule[Device] = operator_rule(_unknown)
"""Unknown operators, each node of them, and an operator set that is too new."""


def _is_plugin(node: Node, device: Device) -> bool:
    """Whether the parser looks for a plugin that somebody must have meant."""
    if any(name in node.attributes for name in PLUGIN_ATTRIBUTES):
        return True
    known = node.op_type in device.operators or node.op_type in _standard_names() or node.domain in RUNTIME_DOMAINS
    return not known and device.platform.product == "tensorrt"


def _foreign(node: Node, device: Device) -> str:
    if node.op_type in device.operators:
        return f"{device.title} would take it for the standard operator {node.op_type}: it looks at no domain"
    return f"{device.title} does not know {node.domain}::{node.op_type}"


def _remedy(node: Node, device: Device) -> str:
    """What helps against an unknown operator, the easiest first."""
    if node.op_type.startswith("QLinear") or node.op_type.endswith("Integer") or "DynamicQuantize" in node.op_type:
        return "start from the float model, or export quantization as QuantizeLinear and DequantizeLinear nodes"
    first_opset, used = _function_since(node.op_type), opset_of(node)
    older = ""
    if first_opset is not None and used is not None and first_opset <= used:
        older = f"export with operator set {first_opset - 1}, which decomposes it"
    release = knowledge().since.get(node.op_type)
    newer = "" if release is None else f"choose a device with TensorRT {release} or newer"
    if release is not None and version(release) <= device.release:
        newer = "choose the target dgpu"
    return ", or ".join(part for part in (older, newer) if part) or SURGERY


@cache
def _standard_names() -> frozenset[str]:
    """The operators that some operator set of the standard has, or had."""
    return frozenset(schema.name for schema in defs.get_all_schemas_with_history() if schema.domain == "")


@cache
def _function_since(op_type: str) -> int | None:
    """The operator set that an operator came with, if the standard also defines it by older ones."""
    history: list[Any] = [
        schema for schema in defs.get_all_schemas_with_history() if schema.name == op_type and schema.domain == ""
    ]
    is_function = any(schema.has_function or schema.has_context_dependent_function for schema in history)
    return min(schema.since_version for schema in history) if is_function else None
