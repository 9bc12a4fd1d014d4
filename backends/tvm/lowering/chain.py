"""What is computed along with a kernel: the elementwise nodes behind it that nobody else reads.

A chain goes on while its value has one reader, is no graph output, and the reader's other operands are there already:
computed before, or constant. A function of the value and its product with the value are one link, too: x · sigmoid(x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from graphpress.backends.tvm.lowering.operators import affine_of, binary_of, function_of, other_operands
from graphpress.ir import Node, Value, is_constant, is_standard, scalar, static_shape
from graphpress.ir.encoding import Encoding, read_encoding

CLAMPS = ("Relu", "Clip")


Reader = tuple[Node, int]
"""A node, and the index of the input."""


class Link(NamedTuple):
    """A node of a chain.

    Args:
        node: the node.
        encoding: in which it reads what comes before it; None for floats.
        others: indices of its other operands, if it has any.
        gate: the node that computes the other operand from what comes before, along with it.
    """

    node: Node
    encoding: Encoding | None
    others: tuple[int, ...] = ()
    gate: Node | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What is computed."""
        return (self.node,) if self.gate is None else (self.gate, self.node)

    @property
    def is_pointwise(self) -> bool:
        """Whether it makes the same of all equal numbers: no other operand has a say, and no channel is special."""
        return (not self.others or self.gate is not None) and affine_of(self.node) is None


def chain_behind(value: Value, is_there: Callable[[Value], bool]) -> list[Link]:
    """The nodes that are computed along with what computes a value.

    Args:
        value: the result of a kernel.
        is_there: whether a value has been computed.
    """
    links: list[Link] = []
    while not value.is_graph_output():
        readers = [(use.node, use.idx) for use in value.uses()]
        link = _link(*readers[0], value, is_there) if len(readers) == 1 else _gate(value, readers)
        if link is None:
            break
        links.append(link)
        value = link.node.outputs[0]
    return links


def _link(node: Node, index: int, value: Value, is_there: Callable[[Value], bool]) -> Link | None:
    encoding = read_encoding(node, index)
    if others := other_operands(node, index):
        operands = [node.inputs[other] for other in others]
        same = static_shape(node.outputs[0]) == static_shape(value)
        ready = all(other is not None and (is_constant(other) or is_there(other)) for other in operands)
        spread = node.op_type != "PRelu" or index == 0
        return Link(node, encoding, others) if same and ready and spread else None
    if (function_of(node) is not None or affine_of(node) is not None) and index == 0:
        return Link(node, encoding)
    if is_standard(node, *CLAMPS) and index == 0 and limits_of(node) is not None:
        return Link(node, encoding)
    return None


def _gate(value: Value, readers: Sequence[Reader]) -> Link | None:
    """The product of a value and a function of it, where nobody else reads either."""
    if len(readers) != 2:
        return None
    for (gate, _), (product, index) in (readers, reversed(readers)):
        result = gate.outputs[0]
        alone = not result.is_graph_output() and [use.node for use in result.uses()] == [product]
        if alone and binary_of(product) == "mul" and function_of(gate) is not None:
            encoding = read_encoding(product, index)
            return Link(product, encoding, (1 - index,), gate) if _alike(encoding, read_encoding(gate, 0)) else None
    return None


def _alike(left: Encoding | None, right: Encoding | None) -> bool:
    """Whether two readers read the same numbers."""
    return (left and left.grid) == (right and right.grid)


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
