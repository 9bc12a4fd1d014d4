"""Axes whose extents are known at run time only: what is said of values, and the error of what they cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from graphpress.backends.tvm.codegen.extent import Extent
from graphpress.errors import ModelError
from graphpress.ir import Node, Value, is_standard, label

_OPEN = "graphpress.tvm.open_axes"
_NONE: Mapping[int, Any] = MappingProxyType({})
_STARTS = "graphpress.tvm.window_starts"
_SHAPES = {"Reshape": 1, "Expand": 1}
"""Operators, and which input says nothing but the shape of the result."""
FIX = "fix the open sizes with --input-shape, or use --backend onnxruntime"


class OpenSizeError(ModelError):
    """Something cannot be computed for sizes that each run gives."""

    def __init__(self, what: str, *, where: str = "", fix: str = FIX) -> None:
        super().__init__(what, where=where, fix=fix)


def declare_open_axes(axes: Mapping[Value, Mapping[int, Any]]) -> None:
    """Remember the open axes of values, each with its extent; their shapes are those of the largest sizes."""
    for value, extents in axes.items():
        value.meta[_OPEN] = dict(extents)


def open_axes(value: Value | None) -> Mapping[int, Any]:
    """The open axes of a value, each with what was declared of it."""
    known: Mapping[int, Any] = _NONE if value is None else value.meta.get(_OPEN, _NONE)
    return known


def declare_window(value: Value, starts: Mapping[int, Extent]) -> None:
    """Remember where the part of a constant begins that a value is, by axis."""
    value.meta[_STARTS] = dict(starts)


def window_starts(value: Value) -> Mapping[int, Extent]:
    """Where a value begins in the constant that it is a part of, by axis; of the others at the first place."""
    known: Mapping[int, Extent] = value.meta.get(_STARTS, _NONE)
    return known


def open_node_error(node: Node, why: str) -> OpenSizeError:
    """The error of a node that open sizes keep from being computed.

    Args:
        node: the node.
        why: a clause.
    """
    return OpenSizeError(f"{node.op_type} cannot be computed for open sizes: {why}", where=f"node {label(node)}")


def is_only_a_shape(value: Value) -> bool:
    """Whether whoever reads a value learns from it what its result's shape says anyway."""
    uses = list(value.uses())
    return bool(uses) and all(is_standard(use.node) and _SHAPES.get(use.node.op_type) == use.idx for use in uses)
