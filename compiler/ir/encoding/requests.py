"""What nodes were asked to compute in: the arithmetic of a node, and the float type of the rest.

node   graphpress.compute.v1         the compute request, such as "int8": what "asked" means in the report
node   graphpress.float.v1           the float type of whatever the node does not do in integers, such as "float16"
"""

from __future__ import annotations

from typing import Final

from graphpress.ir.meta import forget_text, texts
from graphpress.ir.types import Model, Node
from graphpress.ir.values import graphs

COMPUTE_KEY: Final = "graphpress.compute.v1"
FLOAT_TYPE_KEY: Final = "graphpress.float.v1"
FLOAT_TYPES: Final = ("float16", "bfloat16")
"""Types beside float32 that a node of a float32 model can be asked to compute in."""
WEIGHT_ONLY: Final = "weight-only"
"""Request for compressed weights with arithmetic in floats."""


def compute_request(node: Node) -> str | None:
    """What the node was asked to compute in (``int8``, ``weight-only``, ``float16``, …), or None."""
    return texts(node).get(COMPUTE_KEY)


def compute_requests(model: Model) -> dict[str, str]:
    """What nodes were asked to compute in, by name; those that were asked for nothing are left out."""
    requests = ((node.name or "", compute_request(node)) for graph in graphs(model) for node in graph)
    return {name: request for name, request in requests if request is not None}


def request_compute(node: Node, kind: str | None) -> None:
    """Ask for a kind of arithmetic; None withdraws the request."""
    if kind is None:
        forget_text(node, COMPUTE_KEY)
    else:
        node.metadata_props[COMPUTE_KEY] = kind


def float_type(node: Node) -> str | None:
    """The float type that the node was asked to use (``float16``, ``bfloat16``); None for that of its values."""
    return texts(node).get(FLOAT_TYPE_KEY)


def set_float_type(node: Node, dtype: str | None) -> None:
    """Ask for a float type by its ONNX name in lower case; None withdraws the request."""
    if dtype is None:
        forget_text(node, FLOAT_TYPE_KEY)
    else:
        node.metadata_props[FLOAT_TYPE_KEY] = dtype
