"""Operators that nothing here defines: plugins of a runtime, which only the device can run."""

from __future__ import annotations

import onnx

from graphpress.ir.types import Model, Node
from graphpress.ir.values import STANDARD_DOMAINS, graphs, opset_of

RUNTIME_DOMAINS = ("ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft", "com.microsoft.nchwc")
"""Domains beside the standard one whose operators ONNX Runtime has kernels for."""


def foreign_nodes(model: Model) -> list[Node]:
    """Nodes whose operator neither ONNX nor ONNX Runtime nor a function of the model defines.

    That is every operator of another domain, and one of the standard domain that the standard does not have: the way
    in which users of TensorRT write its plugins.
    """
    defined = {identity[:2] for identity in model.functions}
    return [node for graph in graphs(model) for node in graph if _is_foreign(node, defined)]


def _is_foreign(node: Node, defined: set[tuple[str, str]]) -> bool:
    if (node.domain, node.op_type) in defined or node.domain in RUNTIME_DOMAINS:
        return False
    if node.domain not in STANDARD_DOMAINS:
        return True
    opset = opset_of(node)
    return opset is not None and not onnx.defs.has(node.op_type, opset)
