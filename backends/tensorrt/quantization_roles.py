"""The role of each node of a materialized model: what it does, and which of its operands stand as narrow integers."""

from __future__ import annotations

from typing import Literal

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.tensorrt.engine_layers import QuantizationRole
from graphpress.backends.tensorrt.operands import is_product, operands_of, spec_of
from graphpress.ir import Model, Node, graphs
from graphpress.ops import Role

Kind = Literal["product", "mover", "other"]


def quantization_roles(model: Model) -> dict[str, QuantizationRole]:
    """The role of every node by the name that TensorRT calls it; fills in types that the model leaves open."""
    infer_shapes(model)
    return {name: _role_of(node) for name, node in nodes_by_name(model).items()}


def nodes_by_name(model: Model) -> dict[str, Node]:
    """Nodes of all graphs by the name that TensorRT calls them: a nameless one is called after its first output."""
    nodes = (node for graph in graphs(model) for node in graph if node.outputs)
    return {node.name or f"node_of_{node.outputs[0].name}": node for node in nodes}


def _role_of(node: Node) -> QuantizationRole:
    operands = tuple(operand.dtype for _, operand in operands_of(node))
    dtype = node.outputs[0].dtype
    floats = "" if dtype is None or not dtype.is_floating_point() else _type_name(dtype.name)
    return QuantizationRole(_kind(node), operands, floats)


def _kind(node: Node) -> Kind:
    if is_product(node):
        return "product"
    spec = spec_of(node)
    return "mover" if spec is not None and spec.quantization.role is Role.MOVES_DATA else "other"


def _type_name(name: str) -> str:
    return {"float": "float32", "double": "float64"}.get(name.lower(), name.lower())
