"""Sizes that are one size under two names.

ONNX's inference gives every size that it cannot follow a name of its own. Where a node must make a size that has
another name already, both become one, or the number, wherever they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphpress.ir import Model, Shape, SymbolicDim, Value, with_subgraphs


def input_symbols(model: Model) -> set[str]:
    """The symbols that name sizes of the graph's inputs: whoever reads a shape knows what these mean."""
    dims = (dim for value in model.graph.inputs for dim in value.shape or ())
    return {dim.value for dim in dims if isinstance(dim, SymbolicDim) and dim.value is not None}


@dataclass
class SizeNames:
    """Classes of equal sizes, as a forest.

    Args:
        fixed: symbols that keep their names.
        others: for each name that is given up, the number or name that stands for the same size.
    """

    fixed: set[str]
    others: dict[str, int | str] = field(default_factory=dict)

    def unite(self, value: Value, sizes: Sequence[int | str | None]) -> None:
        """Take the sizes of a value for these, by axis; what had neither number nor name gets it."""
        if value.is_graph_output() or value.shape is None or len(value.shape) != len(sizes):
            return
        dims = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
        for old, new in zip(dims, sizes, strict=True):
            if isinstance(old, str) and new is not None:
                self._unite(old, new)
        named = [new if old is None else old for old, new in zip(dims, sizes, strict=True)]
        if named != dims:
            value.shape = Shape(named)

    def rename_all(self, model: Model) -> None:
        """Write the names that are kept into the shapes of all inner values."""
        if self.others:
            for graph in with_subgraphs(model.graph):
                for node in graph:
                    for value in node.outputs:
                        self._rename(value)

    def kept(self, name: int | str) -> int | str:
        """The number or name that stands for a size."""
        end = name
        while isinstance(end, str) and end in self.others:
            end = self.others[end]
        while isinstance(name, str) and name != end:  # so that nobody goes the same way again
            self.others[name], name = end, self.others[name]
        return end

    def _rename(self, value: Value) -> None:
        if value.shape is None or value.is_graph_output():
            return
        dims = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
        kept = [dim if dim is None else self.kept(dim) for dim in dims]
        if kept != dims:
            value.shape = Shape(kept)

    def _unite(self, first: str, second: int | str) -> None:
        ends = [self.kept(first), self.kept(second)]
        ends.sort(key=lambda end: (isinstance(end, int), end in self.fixed))
        gone, kept = ends
        if gone != kept and isinstance(gone, str) and gone not in self.fixed:
            self.others[gone] = kept
