"""What a chain of layers costs in place of the layer, relative to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphpress.analysis.linear import LinearOp
from graphpress.ir import Dims, label
from graphpress.passes.lowrank._form import ChainStage


@dataclass(frozen=True)
class ChainCost:
    """What a layer or a chain costs.

    Args:
        parameters: elements of the weights.
        macs: multiply-accumulates of all stages.
        seconds: measured or modelled; 0 where nobody asked.
    """

    parameters: int
    macs: int
    seconds: float = 0.0

    def saves(self, whole: ChainCost) -> bool:
        """Whether it has fewer parameters or multiply-accumulates, and more of neither."""
        ours, theirs = (self.parameters, self.macs), (whole.parameters, whole.macs)
        return all(mine <= other for mine, other in zip(ours, theirs, strict=True)) and ours != theirs


@dataclass(frozen=True)
class Places:
    """Where the kernel of a layer stands.

    Args:
        read: positions of the data along each spatial axis; of a product none.
        written: positions of the result.
        rows: what the whole is repeated for: samples, and rows of a product.
        transposed: whether the kernel stands at positions of the data and not of the result.
    """

    read: Dims
    written: Dims
    rows: int = 1
    transposed: bool = False

    @staticmethod
    def of(op: LinearOp, shapes: Mapping[str, Dims]) -> Places | None:
        """From static shapes by value name; None where they are not known."""
        data, result = shapes.get(label(op.data)), shapes.get(label(op.result))
        if data is None or result is None:
            return None
        if op.is_convolution:
            return Places(data[2:], result[2:], data[0], op.node.op_type == "ConvTranspose")
        return Places((), (), math.prod(result[:-1]) // op.matrix_shape[0])

    @property
    def visited(self) -> int:
        """How many places the kernel of the whole layer stands at."""
        return self.rows * math.prod(self.read if self.transposed else self.written)

    def cost(self, stages: Sequence[ChainStage]) -> ChainCost:
        """What stages cost that run one after the other: each writes what those before have slid along."""
        slid, macs = set[int](), 0
        for stage in stages:
            before, slid = slid, slid | set(stage.axes)
            at = before if self.transposed else slid
            sizes = [self.written[axis] if axis in at else size for axis, size in enumerate(self.read)]
            macs += stage.parameters * stage.repeats * math.prod(sizes) * self.rows
        return ChainCost(sum(stage.parameters for stage in stages), macs)
