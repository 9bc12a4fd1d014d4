"""How a rule says that it has no kernels for a node."""

from __future__ import annotations

from graphpress.errors import ModelError
from graphpress.ir import Node, Value, is_standard, label, static_shape

DATA_SIZED = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
"""Operators whose results are as large as the data says."""


class UnsupportedError(ModelError):
    """A node for which its rule has no kernels; no result of it has been given room.

    Attributes:
        why: a clause.
    """

    why = ""


def refused(node: Node, why: str) -> UnsupportedError:
    """The error that a rule raises before it makes room for a result.

    Args:
        node: the node.
        why: a clause.
    """
    error = UnsupportedError(
        f"{node.op_type} has no kernels: {why}", where=f"node {label(node)}", fix="use --backend onnxruntime"
    )
    error.why = why
    return error


def missing_result(node: Node, value: Value) -> ModelError:
    """The error of a node whose rule does not compute one of its results."""
    what = f"{node.op_type} has kernels for its first result only"
    return ModelError(what, where=f"value {label(value)}", fix="use --backend onnxruntime")


def shape_error(value: Value) -> ModelError:
    """Of a value whose shape is not known: because of the data, or of the inputs."""
    where, origin = f"value {label(value)}", value.producer()
    while origin is not None and not is_standard(origin, *DATA_SIZED):
        unknown = next((each for each in origin.inputs if each is not None and static_shape(each) is None), None)
        origin = None if unknown is None else unknown.producer()
    if origin is None:
        return ModelError("has no fixed shape", where=where, fix="give all inputs fixed shapes")
    return ModelError(
        f"has no fixed shape: the data decides how much {origin.op_type} {label(origin)} gives",
        where=where,
        fix=f"end the model before {label(origin)} and do it outside, or use --backend onnxruntime",
    )
