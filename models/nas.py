"""Graphs as architecture search finds them (after NASNet, Zoph et al. 2017): many small nodes, irregularly wired."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.errors import UsageError
from graphpress.ir import Model
from graphpress.models.architecture import Architecture
from graphpress.models.builder import LINEAR_GAIN, Builder, Conv

_BLOCKS = 5
_OPERATIONS = ("separable3", "separable5", "average", "max", "identity")
_CLASSIFIER_NODES = 3
_SMALLEST = 100


@dataclass(frozen=True, kw_only=True)
class Nas(Architecture):
    """Cells of randomly chosen operations on randomly chosen earlier states, until there are enough nodes.

    Args:
        nodes: at least so many; the last cell goes beyond by less than its own size.
        width: channels inside a cell.
        image: height and width; halved before the first cell, and at one third and two thirds of the nodes.
        classes: size of the output.
    """

    nodes: int = 1500
    width: int = 8
    image: int = 32
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        if self.nodes < _SMALLEST:
            raise UsageError(f"{self.nodes} nodes are too few", where="nodes", fix=f"take at least {_SMALLEST}")
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        x = b.conv_norm("stem", x, Conv((3, self.width), 3, 2))
        states = [(x, self.width)] * 2
        reductions = [self.nodes // 3, 2 * self.nodes // 3]
        cell = 0
        while b.count < self.nodes - _CLASSIFIER_NODES:
            reduce = bool(reductions) and b.count > reductions[0]
            with b.scope(f"cell{cell}"):
                result = self._cell(b, states, stride=2 if reduce else 1), _BLOCKS * self.width
            reductions = reductions[1:] if reduce else reductions
            states = [result, result] if reduce else [states[1], result]
            cell += 1
        with b.scope("head"):
            b.output(
                b.classifier(b.node("Relu", result[0]), result[1], self.classes), "logits", [self.batch, self.classes]
            )
        return b.finish()

    def _cell(self, b: Builder, states: list[tuple[str, int]], stride: int) -> str:
        """Bring two states to the cell's width, combine earlier results pairwise, and concatenate the sums."""
        results = [
            b.conv_norm(f"adapt{index}", b.node("Relu", state), Conv((channels, self.width), 1, stride))
            for index, (state, channels) in enumerate(states)
        ]
        for block in range(_BLOCKS):
            with b.scope(f"block{block}"):
                operands = [self._operation(b, side, results) for side in ("left", "right")]
                results.append(b.node("Mul", b.node("Add", *operands), b.literal(0.7)))
        return b.node("Concat", *results[-_BLOCKS:], axis=1)

    def _operation(self, b: Builder, side: str, states: list[str]) -> str:
        name = _OPERATIONS[b.random.integers(len(_OPERATIONS))]
        x = states[b.random.integers(len(states))]
        with b.scope(side):
            if name == "identity":
                return b.node("Identity", x)
            if name in ("average", "max"):
                return self._padded_pool(b, "AveragePool" if name == "average" else "MaxPool", x)
            return self._separable(b, x, int(name[-1]))

    def _padded_pool(self, b: Builder, op_type: str, x: str) -> str:
        """A 3x3 pool whose padding is a node of its own, as converted models have it."""
        padded = b.node("Pad", x, b.literal([0, 0, 1, 1, 0, 0, 1, 1]), mode="constant")
        return b.node(op_type, padded, kernel_shape=[3, 3], strides=[1, 1])

    def _separable(self, b: Builder, x: str, kernel: int) -> str:
        """Twice: Relu, depthwise, pointwise, batch normalization."""
        width = self.width
        for index in range(2):
            with b.scope(f"depthwise{index}"):
                x = b.conv(b.node("Relu", x), Conv((width, width), kernel, groups=width))
            x = b.conv_norm(f"pointwise{index}", x, Conv((width, width), 1, gain=LINEAR_GAIN))
        return x
