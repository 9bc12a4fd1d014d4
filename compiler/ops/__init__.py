"""The table of operators: how axes flow, what it costs, where it quantises."""

from graphpress.ops.atoms import Atoms, Axes, Axis, Product
from graphpress.ops.registry import FAMILIES, RuleRegistry, operator_key
from graphpress.ops.spec import Flow, OpSpec, Quantization, Role, Work
from graphpress.ops.table import OPERATORS, lookup, table

__all__ = [
    "FAMILIES",
    "OPERATORS",
    "Atoms",
    "Axes",
    "Axis",
    "Flow",
    "OpSpec",
    "Product",
    "Quantization",
    "Role",
    "RuleRegistry",
    "Work",
    "lookup",
    "operator_key",
    "table",
]
