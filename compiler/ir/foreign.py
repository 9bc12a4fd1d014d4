"""Operators that nothing here defines: plugins of a runtime, and those of libraries that nobody named."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from graphpress.ir.types import Model, Node
from graphpress.ir.values import graphs, is_standard, opset_of

RUNTIME_DOMAINS = ("ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft", "com.microsoft.nchwc")
"""Domains beside the standard one whose operators ONNX Runtime has kernels for."""


def foreign_nodes(model: Model) -> list[Node]:
    """Nodes whose operator neither ONNX nor ONNX Runtime nor a function of the model defines.

    That is every operator of another domain, and one of the standard domain that the standard does not have: the way
    in which users of TensorRT write its plugins.
    """
    return [node for node in nonstandard_nodes(model) if node.domain not in RUNTIME_DOMAINS]


def nonstandard_nodes(model: Model) -> Iterator[Node]:
    """Nodes whose operator neither ONNX nor a function of the model defines: a runtime may have it, or not."""
    defined = {identity[:2] for identity in model.functions}
    for graph in graphs(model):
        yield from (node for node in graph if (node.domain, node.op_type) not in defined and not is_defined(node))


def is_defined(node: Node) -> bool:
    """Whether ONNX has the operator, in the operator set of the node if that is known."""
    if not is_standard(node):
        return False
    opset = opset_of(node)
    return opset is None or onnx.defs.has(node.op_type, opset)
