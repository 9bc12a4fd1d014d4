"""What a translation is: from one node, once, to a function of tensors that runs every time.

    translate(context) → kernel       at construction: attributes and constant operands are looked at here
    kernel(*inputs) → outputs         at every forward pass: as little Python as can be

A kernel takes the node's inputs in their order, None where an optional one is absent, then the values that the
node's subgraphs read from outside. It returns the tensor, or a tuple with one entry an output when the node has
several (None where one is not computed). A sequence is a list of tensors. Kernels are differentiable, keep the dtype
of their operands (they run in float16 and in double precision too) and never change an operand in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from graphpress.ir import NodeView

Kernel = Callable[..., Any]
"""From the inputs of a node to its output, or to a tuple of its outputs."""

Body = Callable[[Sequence[Any], Sequence[Any]], list[Any]]
"""A subgraph: from its own inputs and from the values it reads from outside to its outputs."""


class UntranslatableError(Exception):
    """A translation cannot express this node; the text is the reason. Whoever translates the graph names the node."""


@dataclass(frozen=True)
class TranslationContext:
    """One node with what is known of it before the model runs.

    Args:
        node: the node; an input is known where it is a constant that does not train, and attributes of a function's
            node that refer to its caller are those given there.
        bodies: its subgraphs by the name of their attribute.
    """

    node: NodeView
    bodies: Mapping[str, Body] = field(default_factory=dict)

    def reader(self, index: int, name: str = "") -> Callable[[Tensor | None], tuple[int, ...] | None]:
        """Reads the integers of an operand: ahead where they are constant, else from the tensor at run time.

        Args:
            index: the input that holds them.
            name: the attribute that holds them in older operator sets.

        Returns:
            A function of the tensor at that input; it returns None where neither input nor attribute is given.
        """
        known = self.node.integers(name, index)
        if known is not None or not self.node.has(index):
            return lambda tensor: known
        return _integers_of

    def require(self, condition: bool, why: str) -> None:
        """Refuse the node unless the condition holds.

        Raises:
            UntranslatableError: it does not.
        """
        if not condition:
            raise UntranslatableError(why)


def _integers_of(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(int(item) for item in tensor.reshape(-1).tolist())


Translation = Callable[[TranslationContext], Kernel]
"""From a node to its kernel. Raises UntranslatableError where it cannot."""
