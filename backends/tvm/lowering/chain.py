"""What is computed along with a kernel: the elementwise nodes behind it that nobody else reads.

A chain goes on while its value has one reader, is no graph output, and the reader's other operands are there already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from graphpress.ir import Node, Value, is_constant, is_standard, scalar, static_shape
from graphpress.ir.encoding import Encoding, read_encoding

FUNCTIONS = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Erf": "erf", "Exp": "exp", "HardSwish": "hard_swish"}
"""Functions of one number, by operator."""
CLAMPS = ("Relu", "Clip")


class Link(NamedTuple):
    """A node of a chain.

    Args:
        node: the node.
        encoding: in which it reads what comes before it; None for floats.
        other: index of its other operand, for a sum.
    """

    node: Node
    encoding: Encoding | None
    other: int | None = None


def chain_behind(value: Value, is_there: Callable[[Value], bool]) -> list[Link]:
    """The nodes that are computed along with what computes a value.

    Args:
        value: the result of a kernel.
        is_there: whether a value has been computed.
    """
    links: list[Link] = []
    while not value.is_graph_output() and len(uses := list(value.uses())) == 1:
        link = _link(uses[0].node, uses[0].idx, value, is_there)
        if link is None:
            break
        links.append(link)
        value = link.node.outputs[0]
    return links


def _link(node: Node, index: int, value: Value, is_there: Callable[[Value], bool]) -> Link | None:
    encoding = read_encoding(node, index)
    if is_standard(node, "Add"):
        other = node.inputs[1 - index]
        same = other is not None and static_shape(other) == static_shape(value)
        ready = other is not None and not is_constant(other) and is_there(other)
        return Link(node, encoding, 1 - index) if same and ready else None
    if is_standard(node, *FUNCTIONS) or (is_standard(node, *CLAMPS) and limits_of(node) is not None):
        return Link(node, encoding)
    return None


def limits_of(node: Node) -> tuple[float | None, float | None] | None:
    """The limits of a clamp, None for one that it lacks; None altogether where they are computed at run time."""
    if node.op_type == "Relu":
        return 0.0, None
    limits: list[float | None] = []
    for index, name in ((1, "min"), (2, "max")):
        value = node.inputs[index] if index < len(node.inputs) else None
        if name in node.attributes:
            limits.append(node.attributes[name].as_float())
        elif value is None:
            limits.append(None)
        elif (limit := scalar(value)) is None:
            return None
        else:
            limits.append(limit)
    return limits[0], limits[1]
