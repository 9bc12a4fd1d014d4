"""How a rule says that it has no kernels for a node."""

from __future__ import annotations

from graphpress.errors import ModelError
from graphpress.ir import Node, Value, label


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
