"""The mark of a node that is a factor of a decomposed layer: the graph alone cannot tell, and files keep it."""

from __future__ import annotations

from typing import Final

from graphpress.ir.meta import texts
from graphpress.ir.types import Node

FACTOR_KEY: Final = "graphpress.factor.v1"
"""Key of the mark beside the node."""


def is_factor(node: Node) -> bool:
    """Whether the node is a factor of a decomposed layer."""
    return FACTOR_KEY in texts(node)


def mark_factor(node: Node) -> None:
    """Remember that the node is one."""
    node.metadata_props[FACTOR_KEY] = "1"
