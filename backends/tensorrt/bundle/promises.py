"""What a bundle promises: the type in which each layer computes, and how near each output comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphpress.ir import Model, graphs
from graphpress.ir.encoding import compute_request, float_type
from graphpress.ir.sparsity import sparsity_of


@dataclass(frozen=True)
class Promise:
    """What one layer was asked to compute in.

    Args:
        name, op: the ONNX node.
        asked: ``int8``, ``float16``, ….
        proxy: in what it computes in an engine built ahead of time for a stand-in; None where that is not known.
    """

    name: str
    op: str
    asked: str
    proxy: str | None = None


def promises(annotated: Model, became: Mapping[str, str] | None = None) -> list[Promise]:
    """One for every node of the main graph that was asked for something.

    Args:
        annotated: the graph with its requests.
        became: in which type each node computes on a stand-in, by its name.
    """
    known = became or {}
    found = ((node, compute_request(node) or float_type(node)) for node in annotated.graph)
    return [
        Promise(node.name or "", node.op_type, asked, known.get(node.name or ""))
        for node, asked in found
        if asked is not None
    ]


def types_of(annotated: Model) -> list[str]:
    """Types beside float32 that nodes were asked to use, sorted."""
    asked = ((compute_request(node), float_type(node)) for graph in graphs(annotated) for node in graph)
    return sorted({word for pair in asked for word in pair if word is not None and word != "float32"})


def is_sparse(annotated: Model) -> bool:
    """Whether a weight is annotated as 2:4 sparse."""
    found = (sparsity_of(value) for value in annotated.graph.initializers.values())
    return any(one is not None and one.block == (2, 4) for one in found)
