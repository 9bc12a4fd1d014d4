"""Compute once what is computed twice, and store once what is stored twice.

    f(x, a), f(x, a)   →   one f(x, a) with two readers

Two nodes are the same when they are the same standard operator with the same operands (in any order where the
operator commutes) and exactly equal attributes; tensors are compared by content. A subgraph reuses what the graphs
around it have computed before it. Of equal large constants in branches beside one another, one goes into the graph
around them; a small one stays, for its numbers help to infer the shapes in its branch. Left alone: random operators,
nodes with subgraphs, other domains, and QuantizeLinear/DequantizeLinear, which annotate one use each. Two results that
are both graph outputs stay two.
"""

from __future__ import annotations

import hashlib
from collections import ChainMap, Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from graphpress.ir import (
    Attr,
    AttributeType,
    Editor,
    Function,
    Graph,
    Model,
    Node,
    TensorProtocol,
    Value,
    graphs,
    is_constant,
    is_standard,
    subgraphs_of,
)
from graphpress.ir.encoding import EncodedTensor, annotations_of
from graphpress.ir.values import holds_graphs, tensor_of
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.ops import lookup
from graphpress.passes.cleanup._purity import is_random

LIFTED_BYTES = 1024
"""Constants of fewer bytes stay in their branches."""


@dataclass(frozen=True)
class CommonSubexpressionElimination(Pass):
    """Lossless: the same numbers, computed and stored once."""

    name: ClassVar[str] = "cse"

    def run(self, model: Model, context: Context) -> Outcome:
        """Merge constants, then nodes in topological order, so that one walk finds whole equal branches."""
        merger = _Merger(Editor(model), _Contents(model))
        bodies: list[Graph | Function] = [model.graph, *model.functions.values()]
        for body in bodies:
            merger.merge(body, ChainMap(), ())
        return Outcome(merger.merged)


@dataclass
class _Merger:
    edit: Editor
    contents: _Contents
    node_keys: dict[Node, Hashable] = field(default_factory=dict)
    apart: dict[Hashable, tuple[Value, tuple[Graph, ...]]] = field(default_factory=dict)
    merged: int = 0

    def merge(self, graph: Graph | Function, seen: ChainMap[Hashable, Node | Value], around: tuple[Graph, ...]) -> None:
        """Merge within ``graph`` and what it sees of the graphs around it."""
        path = (*around, graph) if isinstance(graph, Graph) else around
        if isinstance(graph, Graph):
            for value in list(graph.initializers.values()):
                self._merge_constant(value, seen, path)
        for node in graph:
            if holds_graphs(node):
                for subgraph in subgraphs_of(node):
                    self.merge(subgraph, seen.new_child(), path)
            elif _is_mergeable(node):
                self._merge_node(node, seen)

    def _merge_constant(self, value: Value, seen: ChainMap[Hashable, Node | Value], path: tuple[Graph, ...]) -> None:
        key = self.contents.key(value)
        if key is None:
            return
        if key not in seen:
            self._share(key, value, seen, path)
        first = seen.setdefault(key, value)
        if isinstance(first, Value) and first is not value and not value.is_graph_output():
            self.edit.replace(value, first)
            self.edit.drop_if_unused(value)
            self.merged += 1

    def _share(
        self, key: Hashable, value: Value, seen: ChainMap[Hashable, Node | Value], path: tuple[Graph, ...]
    ) -> None:
        """Put the equal of a large constant that stands in a branch beside into the innermost graph around both."""
        alike, others = self.apart.setdefault(key, (value, path))
        common = tuple(graph for graph, other in zip(path, others, strict=False) if graph is other)
        if alike is value or not common or alike.is_graph_output() or _bytes(alike) < LIFTED_BYTES:
            return
        self.edit.lift(alike, common[-1])
        self.apart[key] = alike, common
        seen.maps[len(path) - len(common)][key] = alike

    def _merge_node(self, node: Node, seen: ChainMap[Hashable, Node | Value]) -> None:
        """Attributes are compared only where operator and operands agree: most nodes have no equal."""
        outline = _node_outline(node)
        alike = seen.setdefault(outline, node)
        if alike is node or not isinstance(alike, Node):
            return
        scope = next(scope for scope in seen.maps if outline in scope)
        scope.setdefault(self._node_key(alike), alike)
        first = seen.setdefault(self._node_key(node), node)
        if isinstance(first, Node) and first is not node:
            self._replace(node, first)

    def _replace(self, node: Node, first: Node) -> None:
        pairs = list(zip(node.outputs, first.outputs, strict=True))
        if all(self.edit.can_replace(old, new) for old, new in pairs):
            for old, new in pairs:
                self.edit.replace(old, new)
            self.edit.remove(node)
            self.merged += 1

    def _node_key(self, node: Node) -> Hashable:
        if node not in self.node_keys:
            self.node_keys[node] = (
                _node_outline(node),
                frozenset((name, self.contents.attribute_key(value)) for name, value in node.attributes.items()),
                tuple((output.name == "", annotations_of(output)) for output in node.outputs),
                annotations_of(node),
            )
        return self.node_keys[node]


class _Contents:
    """Content keys of tensors. Only tensors that agree in type, shape and first elements are read to the end."""

    def __init__(self, model: Model) -> None:
        values = [
            value
            for graph in graphs(model)
            if isinstance(graph, Graph)
            for value in graph.initializers.values()
            if is_constant(value)
        ]
        outlines = {value: _outline(value) for value in values}
        alike = Counter(outlines.values())
        self._beginnings = {
            value: (outline, _first_elements(value)) for value, outline in outlines.items() if alike[outline] > 1
        }
        self._alike = Counter(self._beginnings.values())

    def key(self, value: Value) -> Hashable | None:
        """Equal for constants that can stand in for one another; None for what is unique or can be overridden."""
        beginning = self._beginnings.get(value)
        if beginning is None or self._alike[beginning] < 2 or value.const_value is None:
            return None
        return (beginning, _contents(value.const_value), annotations_of(value))

    def attribute_key(self, attribute: Attr) -> Hashable:
        """Equal for attributes that are exactly equal, the sign of a zero and the bits of a NaN included."""
        if attribute.is_ref():
            return (attribute.type, "ref", attribute.ref_attr_name)
        if attribute.type == AttributeType.TENSOR:
            tensor = tensor_of(attribute)
            return (attribute.type, tensor.dtype, tuple(tensor.shape), _digest(tensor))
        if attribute.type in (AttributeType.FLOAT, AttributeType.FLOATS):
            return (attribute.type, np.asarray(attribute.value, np.float64).tobytes())
        if attribute.type in (AttributeType.INT, AttributeType.STRING):
            return (attribute.type, attribute.value)
        if attribute.type in (AttributeType.INTS, AttributeType.STRINGS):
            return (attribute.type, tuple(attribute.value))
        return (attribute.type, id(attribute))  # sparse tensors and types: the same only if it is the same object


def _outline(value: Value) -> Hashable:
    """Type and shape, from the value where it states them: a tensor of a message works them out whenever asked."""
    tensor = value.const_value
    if tensor is None:
        return None
    dtype = int(value.dtype or tensor.dtype)  # an enumeration's members are hashed in Python, and slowly
    return (dtype, tuple(tensor.shape if value.shape is None else value.shape))


def _first_elements(value: Value) -> bytes:
    assert value.const_value is not None
    return value.const_value.numpy().reshape(-1)[:8].tobytes()


def _bytes(value: Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes


def _contents(tensor: TensorProtocol) -> Hashable:
    """Equal for tensors of equal contents: of codes those, for the floats that they stand for may coincide."""
    return (tensor.encoding, _digest(tensor.codes)) if isinstance(tensor, EncodedTensor) else _digest(tensor)


def _digest(tensor: TensorProtocol) -> bytes:
    """A hash of the contents; memory-mapped tensors are read page by page, not copied."""
    array = tensor.numpy()
    if array.dtype == object:
        return hashlib.blake2b(repr(array.tolist()).encode()).digest()
    flat = np.asarray(array, order="C").reshape(-1)
    return hashlib.blake2b(flat.view(np.uint8).data).digest()


def _node_outline(node: Node) -> Hashable:
    """Equal for nodes of the same operator and operands, whatever their attributes."""
    operands = [id(value) for value in node.inputs]
    if _commutes(node):
        operands.sort()
    return (node.op_type, tuple(operands))


def _commutes(node: Node) -> bool:
    spec = lookup(node.op_type)
    return spec is not None and spec.commutative and not node.attributes


def _is_mergeable(node: Node) -> bool:
    return is_standard(node) and node.op_type not in ("QuantizeLinear", "DequantizeLinear") and not is_random(node)
