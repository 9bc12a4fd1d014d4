"""The table of operators: how axes flow, what it costs, where it quantises."""

from graphpress.ops.atoms import Atoms, Axes, Axis, Product
from graphpress.ops.spec import Call, Dims, Flow, OpSpec, Quantization, Role, UnknownShapeError, Work
from graphpress.ops.table import lookup, table

__all__ = [
    "Atoms",
    "Axes",
    "Axis",
    "Call",
    "Dims",
    "Flow",
    "OpSpec",
    "Product",
    "Quantization",
    "Role",
    "UnknownShapeError",
    "Work",
    "lookup",
    "table",
]
