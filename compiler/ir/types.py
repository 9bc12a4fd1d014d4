"""The names of the graph IR: onnx_ir's own classes, under one interface.

Only the modules of this package import ``onnx_ir``; everything else imports from ``graphpress.ir``.
"""

from __future__ import annotations

from onnx_ir import (
    Attr,
    AttributeType,
    DataType,
    ExternalTensor,
    Function,
    Graph,
    LazyTensor,
    Model,
    Node,
    RefAttr,
    Shape,
    SymbolicDim,
    Tensor,
    TensorProtocol,
    TensorType,
    Value,
)

__all__ = [
    "Attr",
    "AttributeType",
    "DataType",
    "ExternalTensor",
    "Function",
    "Graph",
    "LazyTensor",
    "Model",
    "Node",
    "RefAttr",
    "Shape",
    "SymbolicDim",
    "Tensor",
    "TensorProtocol",
    "TensorType",
    "Value",
]
