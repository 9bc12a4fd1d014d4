"""A row of If nodes with bodies of trivial nodes, to measure that subgraphs take time in proportion, too."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models.architecture import Architecture
from graphpress.models.builder import Builder

_BODY = 4
"""Nodes of each body, without the If that every other one holds."""


@dataclass(frozen=True, kw_only=True)
class Branches(Architecture):
    """Each If chooses by the sign of the sum; every other one holds another in both of its bodies.

    Args:
        nodes: at least so many, those of subgraphs included; the last If goes beyond by less than its own size.
        width: features of every value.
    """

    nodes: int = 200
    width: int = 8

    def build(self) -> Model:
        """From ``input`` (N, width) to ``output`` (N, width)."""
        b = self.builder()
        x = b.input("input", [self.batch, self.width])
        made, step = 1, 0
        while made < self.nodes:
            x, size = self._choice(b, x, f"step{step}", nested=bool(step % 2))
            made, step = made + size, step + 1
        b.output(b.node("Relu", x), "output", [self.batch, self.width])
        return b.finish()

    def _choice(self, b: Builder, x: str, name: str, *, nested: bool) -> tuple[str, int]:
        """The result of an If, and how many nodes it took."""
        with b.scope(name):
            positive = b.node("Greater", b.node("ReduceSum", x, keepdims=0), b.literal(0.0))
            bodies = [self._body(f"{name}_{branch}", x, nested=nested) for branch in ("then", "else")]
            result = b.node("If", positive, then_branch=bodies[0][0].graph(), else_branch=bodies[1][0].graph())
        return result, 4 + sum(size for _, size in bodies)

    def _body(self, name: str, x: str, *, nested: bool) -> tuple[Builder, int]:
        """A subgraph whose names begin with its own, and how many nodes it has."""
        body = Builder(name, opset=self.opset, seed=self.seed, prefix=name)
        y = body.node("Add", body.node("Identity", x), body.small(self.width))
        size = 0
        if nested:
            y, size = self._choice(body, y, f"{name}_inner", nested=False)
        y = body.node("Tanh", body.node("Mul", y, body.near_one(self.width)))
        body.output(y, f"{name}_result", [self.batch, self.width])
        return body, _BODY + size
