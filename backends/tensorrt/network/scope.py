"""What the names of one graph stand for while it is lowered: tensors of the network, or arrays that are known.

A value is an array as long as no rule needs its tensor; then it becomes one constant layer, which all its readers
share. A subgraph has a scope of its own inside that of the graph around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.layers import LayerBuilder, Tensor
from graphpress.ir import Graph, Value, constant, is_constant


@dataclass
class Construction:
    """The network in the making.

    Args:
        trt: the module ``tensorrt`` or ``tensorrt_rtx``.
        network: its ``INetworkDefinition``.
        strong: whether every tensor has the type that the graph declares, whatever the builder prefers.
        lower: lowers the nodes of a graph into a scope.
        held: arrays that the network views.
        names: tensor names that are taken.
    """

    trt: Any
    network: Any
    strong: bool
    lower: Callable[[Graph, Scope], None]
    held: list[np.ndarray] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def layers(self, name: str) -> LayerBuilder:
        """Layers under a name of their own."""
        return LayerBuilder(self.trt, self.network, name, self.held)


class Scope:
    """Tensors and arrays of the values of one graph.

    Args:
        place: the network.
        parent: the scope of the graph around this one.
        enter: what a tensor from around goes through on its way in.
    """

    def __init__(
        self, place: Construction, parent: Scope | None = None, enter: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.place = place
        self._parent, self._enter = parent, enter
        self._tensors: dict[Value, Tensor] = {}
        self._arrays: dict[Value, np.ndarray] = {}

    def inside(self, enter: Callable[[Tensor], Tensor] | None = None) -> Scope:
        """A scope for a subgraph."""
        return Scope(self.place, self, enter)

    def lower(self, graph: Graph) -> list[Tensor]:
        """Lower the nodes of a subgraph whose inputs are bound here; the tensors of its outputs."""
        self.place.lower(graph, self)
        return [self.tensor(value) for value in graph.outputs]

    def bind(self, value: Value, result: Tensor | np.ndarray) -> None:
        """Let a value stand for a tensor, or for an array that is known."""
        if isinstance(result, np.ndarray):
            self._arrays[value] = result
        else:
            self._tensors[value] = result

    def array(self, value: Value) -> np.ndarray | None:
        """What the value holds, where that is known."""
        if value in self._arrays:
            return self._arrays[value]
        if is_constant(value):
            return constant(value)
        return None if self._parent is None else self._parent.array(value)

    def tensor(self, value: Value) -> Tensor:
        """The value as a tensor of the network."""
        if value not in self._tensors:
            self._tensors[value] = self._found(value)
        return self._tensors[value]

    def _found(self, value: Value) -> Tensor:
        array = self.array(value)
        if array is not None:
            return self.place.layers(value.name or "constant").constant_tensor(array)
        if self._parent is None:
            raise KeyError(value.name)
        outer = self._parent.tensor(value)
        return outer if self._enter is None else self._enter(outer)
