"""What a bundle expects: the type in which each layer computes, and how near each output comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphpress.ir import Model, graphs
from graphpress.ir.encoding import WEIGHT_ONLY, compute_request, float_type, read_encoding
from graphpress.ir.sparsity import sparsity_of


@dataclass(frozen=True)
class ExpectedPrecision:
    """The type requested of one layer.

    Args:
        name, op: the ONNX node.
        asked: ``int8``, ``float16``, ….
        proxy: in what it computes in an engine built ahead of time for a proxy; None where that is not known.
    """

    name: str
    op: str
    asked: str
    proxy: str | None = None


def expected_precisions(annotated: Model, became: Mapping[str, str] | None = None) -> list[ExpectedPrecision]:
    """One for every node of the main graph that has a request.

    Args:
        annotated: the graph with its requests.
        became: in which type each node computes on a proxy, by its name.
    """
    known = became or {}
    requests = ((node, compute_request(node) or float_type(node)) for node in annotated.graph)
    return [
        ExpectedPrecision(node.name or "", node.op_type, asked, known.get(node.name or ""))
        for node, asked in requests
        if asked is not None
    ]


def types_of(annotated: Model) -> list[str]:
    """Types beside float32 that are requested of nodes, or that they read their operands in, sorted."""
    nodes = [node for graph in graphs(annotated) for node in graph]
    asked = {dtype for node in nodes for dtype in (compute_request(node), float_type(node)) if dtype is not None}
    read = (read_encoding(node, index) for node in nodes for index in range(len(node.inputs)))
    stored = {encoding.dtype for encoding in read if encoding is not None}
    return sorted((asked | stored) - {"float32", "int32", WEIGHT_ONLY})


def is_sparse(annotated: Model) -> bool:
    """Whether a weight is annotated as 2:4 sparse."""
    marks = (sparsity_of(value) for value in annotated.graph.initializers.values())
    return any(mark is not None and mark.block == (2, 4) for mark in marks)
