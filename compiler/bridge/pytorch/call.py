"""What a translation is: from one node, once, to a function of tensors that runs every time.

    translate(call) → kernel          at construction: attributes and constant operands are looked at here
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

import numpy as np
from torch import Tensor

from graphpress.ir import Attr, Node, input_of

Kernel = Callable[..., Any]
"""From the inputs of a node to its output, or to a tuple of its outputs."""

Body = Callable[[Sequence[Any], Sequence[Any]], list[Any]]
"""A subgraph: from its own inputs and from the values it reads from outside to its outputs."""


class UntranslatableError(Exception):
    """A translation cannot express this node; the text says why. Whoever translates the graph names the node."""


@dataclass(frozen=True)
class Call:
    """One node with what is known of it before the model runs.

    Args:
        node: the node.
        opset: the version of its operator set.
        attributes: its attributes; those of a function's node that refer to its caller are looked up there.
        fixed: for each input its array where it is a constant that does not train, else None.
        bodies: its subgraphs by the name of their attribute.
    """

    node: Node
    opset: int
    attributes: Mapping[str, Attr]
    fixed: tuple[np.ndarray | None, ...] = ()
    bodies: Mapping[str, Body] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """How many outputs are named: trailing ones that are not, nobody reads."""
        return max((index for index, value in enumerate(self.node.outputs, 1) if value.name), default=0)

    def has(self, index: int) -> bool:
        """Whether the optional input is given."""
        return input_of(self.node, index) is not None

    def constant(self, index: int) -> np.ndarray | None:
        """The array of an input that is constant and does not train, else None (absent inputs too)."""
        return self.fixed[index] if index < len(self.fixed) else None

    def integer(self, name: str, default: int) -> int:
        """An integer attribute or its default."""
        attribute = self.attributes.get(name)
        return default if attribute is None else attribute.as_int()

    def number(self, name: str, default: float) -> float:
        """A float attribute or its default."""
        attribute = self.attributes.get(name)
        return default if attribute is None else attribute.as_float()

    def text(self, name: str, default: str) -> str:
        """A string attribute or its default."""
        attribute = self.attributes.get(name)
        return default if attribute is None else attribute.as_string()

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute that holds integers, or None where it is absent."""
        attribute = self.attributes.get(name)
        return None if attribute is None else tuple(attribute.as_ints())

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """An attribute that holds floats, or None where it is absent."""
        attribute = self.attributes.get(name)
        return None if attribute is None else tuple(attribute.as_floats())

    def scalar(self, index: int, name: str = "") -> float | None:
        """The single number of an operand that is constant, or of the attribute it was in older operator sets."""
        attribute = self.attributes.get(name)
        if attribute is not None:
            return attribute.as_float()
        array = self.constant(index)
        if array is None or array.size != 1:
            return None
        number: float = array.reshape(-1)[0].item()
        return number

    def reader(self, index: int, name: str = "") -> Callable[[Tensor | None], tuple[int, ...] | None]:
        """Reads the integers of an operand: ahead where they are constant, else from the tensor at run time.

        Args:
            index: the input that holds them.
            name: the attribute that holds them in older operator sets.

        Returns:
            A function of the tensor at that input; it returns None where neither input nor attribute is given.
        """
        array = self.constant(index)
        known = self.integers(name) if name else None
        if known is None and array is not None:
            known = tuple(int(item) for item in array.reshape(-1))
        if known is not None or not self.has(index):
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


Translation = Callable[[Call], Kernel]
"""From a node to its kernel. Raises UntranslatableError where it cannot."""
