"""The table of operators: how axes flow, what it costs, where it quantizes."""

from graphpress.ops.dependency import Axes, Axis, DependencyClasses, ProductConstraint
from graphpress.ops.registry import FAMILIES, RuleRegistry, operator_key
from graphpress.ops.spec import Flow, OpSpec, Quantization, Role, Work
from graphpress.ops.table import OPERATORS, lookup, table

__all__ = [
    "FAMILIES",
    "OPERATORS",
    "Axes",
    "Axis",
    "DependencyClasses",
    "Flow",
    "OpSpec",
    "ProductConstraint",
    "Quantization",
    "Role",
    "RuleRegistry",
    "Work",
    "lookup",
    "operator_key",
    "table",
]
