"""A chain of trivial nodes, to measure that passes take time in proportion to the graph."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Chain(Architecture):
    """Identity, Relu and Add of a constant, in turn.

    Args:
        nodes: length of the chain, at least 1.
        width: features of every value.
    """

    nodes: int = 1000
    width: int = 8

    def build(self) -> Model:
        """From ``input`` (N, width) to ``output`` (N, width)."""
        b = self.builder()
        x = b.input("input", [self.batch, self.width])
        for index in range(self.nodes):
            if index % 3 == 2:
                x = b.node("Add", x, b.small(self.width))
            else:
                x = b.node("Relu" if index % 3 else "Identity", x)
        b.output(x, "output", [self.batch, self.width])
        return b.finish()
