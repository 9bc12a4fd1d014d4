"""What the table says of an operator: how axes flow, what it costs, where it quantizes, whether it folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from graphpress.ir import Node, NodeView, UnknownShapeError, dims_of
from graphpress.ops.dependency import Axes, DependencyClasses

if TYPE_CHECKING:
    from graphpress.ops.shrink import Shrink


@dataclass(frozen=True)
class Flow:
    """A node with the axes of what it reads, and the classes they are made of."""

    node: NodeView
    axes: tuple[Axes | None, ...]
    classes: DependencyClasses

    def of(self, index: int) -> Axes:
        """The axes of an input.

        Raises:
            UnknownShapeError: it is absent or unknown.
        """
        axes = self.axes[index] if index < len(self.axes) else None
        if axes is None:
            raise UnknownShapeError(f"input {index} of {self.node.op_type}")
        return axes

    def declared(self, output: int = 0) -> list[bool]:
        """Which axes of an output are known to have the same size in every run, whatever the inputs' sizes are."""
        known = dims_of(self.node.outputs[output]) or ()
        rank = len(self.node.output_shape(output))
        return [index < len(known) and known[index] is not None for index in range(rank)]

    def fixed(self, sizes: Sequence[int], reason: str) -> Axes:
        """Pinned axes of these sizes."""
        return tuple(self.classes.pinned(size, f"{reason} of {self.node.op_type}") for size in sizes)

    def pin(self, axis: np.ndarray, reason: str) -> None:
        """Pin an axis that this operator needs whole."""
        self.classes.pin(axis, f"{reason} of {self.node.op_type} {self.node.name}".rstrip())


@dataclass(frozen=True)
class Work:
    """What one node costs.

    Args:
        macs: multiply-accumulates.
        operations: other operations on elements (additions, comparisons, exponentials: one each).
        moves: whether it reads and writes memory at all; views and shape questions don't.
    """

    macs: int = 0
    operations: int = 0
    moves: bool = True


class Role(Enum):
    """What an operator is to quantization, by its nature and not by what a device has kernels for."""

    COMPUTE = "compute"
    """Multiplies by weights (or contracts two tensors): integer arithmetic pays here."""
    MOVES_DATA = "moves_data"
    """Only moves or selects values: what it reads and writes share one encoding."""
    ELEMENTWISE = "elementwise"
    """Computes each element from those at the same position."""
    OPAQUE = "opaque"
    """Anything else: no statement."""


@dataclass(frozen=True)
class Quantization:
    """Where an operator quantizes.

    Args:
        role: its nature.
        weight: index of the input that holds weights, for compute operators.
        bias: index of the input that is added to the accumulator, whose scale is derived.
        shared: indices of the inputs that share the encoding of the first output; None for every input.
        channel_axis: from the node and the rank of its weight, the weight's axis of output channels.
    """

    role: Role = Role.OPAQUE
    weight: int | None = None
    bias: int | None = None
    shared: tuple[int, ...] | None = ()
    channel_axis: Callable[[Node, int], int] | None = None

    @property
    def moves_data(self) -> bool:
        """Whether input and output share one encoding."""
        return self.role is Role.MOVES_DATA


OPAQUE = Quantization()
ELEMENTWISE = Quantization(Role.ELEMENTWISE)
MOVES_FIRST = Quantization(Role.MOVES_DATA, shared=(0,))

AxesRule = Callable[[Flow], Sequence[Axes | None]]
"""Axes of the outputs from those of the inputs, uniting and pinning on the way."""

CostRule = Callable[[NodeView], Work]
"""Work of one node from its shapes. Raises UnknownShapeError where one that it needs is missing."""


ShrinkRule = Callable[["Shrink"], None]
"""Change a node whose axes lose positions."""


@dataclass(frozen=True)
class OpSpec:
    """One operator of the table.

    Args:
        axes: how axes flow.
        cost: what it costs.
        quantization: where it quantizes.
        elementwise: each output element depends only on the input elements that broadcast to its position; no
            operand belongs to an axis of a certain number, so that all axes can be permuted alike.
        foldable: with constant inputs it gives the same constant every time.
        commutative: the order of its inputs does not matter.
        shrink: how its attributes and integer operands follow when axes lose positions; None when there are none.
    """

    axes: AxesRule
    cost: CostRule
    quantization: Quantization = OPAQUE
    elementwise: bool = False
    foldable: bool = True
    commutative: bool = False
    shrink: ShrinkRule | None = None
