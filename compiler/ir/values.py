"""Questions about values and nodes: what is constant, who reads, which axis sizes are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

import numpy as np

from graphpress.ir.types import Attr, AttributeType, Function, Graph, Model, Node, SymbolicDim, TensorProtocol, Value

STANDARD_DOMAINS = ("", "ai.onnx")
G = TypeVar("G", bound=Graph | Function)
TENSOR_TYPES = (AttributeType.TENSOR, AttributeType.TENSORS)
_GRAPH_TYPES = (AttributeType.GRAPH, AttributeType.GRAPHS)


def is_standard(node: Node, *op_types: str) -> bool:
    """Whether ``node`` is an operator of the ONNX standard, and one of ``op_types`` if any are given.

    A node in a function whose attributes refer to those of the caller is not: what it does differs from call to call.
    """
    if node.domain not in STANDARD_DOMAINS or (op_types and node.op_type not in op_types):
        return False
    for attribute in node.attributes.data.values():  # noqa: SIM110  # half the time of a generator: every walk asks
        if attribute.is_ref():
            return False
    return True


def attributes_of(node: Node) -> Iterable[Attr]:
    """The attributes of the node, straight from the dictionary that holds them: walks over whole models ask often."""
    return node.attributes.data.values()


def tensor_of(attribute: Attr) -> TensorProtocol:
    """The tensor that an attribute holds; ``as_tensor`` asks it for every method of the protocol, which takes time.

    Raises:
        TypeError: the attribute is of another type.
    """
    if attribute.type != AttributeType.TENSOR:
        raise TypeError(f"the attribute {attribute.name!r} is of type {attribute.type.name}, not TENSOR")
    tensor: TensorProtocol = attribute.value
    return tensor


def graphs(model: Model) -> Iterator[Graph | Function]:
    """The main graph, its subgraphs and every function body (with their subgraphs), outermost first."""
    yield from with_subgraphs(model.graph)
    for function in model.functions.values():
        yield from with_subgraphs(function)


def with_subgraphs(graph: G) -> Iterator[G | Graph]:
    """The graph or function and the graphs that its nodes hold, at any depth, outermost first."""
    yield graph
    for node in graph:
        if holds_graphs(node):
            for subgraph in subgraphs_of(node):
                yield from with_subgraphs(subgraph)


def holds_graphs(node: Node) -> bool:
    """Whether the node has a graph among its attributes, as If, Loop and Scan have."""
    for attribute in node.attributes.data.values():  # noqa: SIM110  # as above
        if attribute.type in _GRAPH_TYPES and not attribute.is_ref():
            return True
    return False


def values_of(graph: Graph | Function) -> Iterator[Value]:
    """Every value that a graph defines: inputs, initializers, results of nodes; an input with a default comes twice."""
    yield from graph.inputs
    if isinstance(graph, Graph):
        yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def count_nodes(model: Model) -> int:
    """Nodes of all graphs, those of subgraphs and function bodies included."""
    return sum(len(graph) for graph in graphs(model))


def opset_of(node: Node) -> int | None:
    """The version of the standard operator set that ``node`` is written in; None when its graph declares none.

    Loading declares the model's operator sets in its subgraphs too, so that this needs nothing but the node.
    """
    imports = {} if node.graph is None else node.graph.opset_imports
    return next((imports[domain] for domain in STANDARD_DOMAINS if domain in imports), None)


def is_constant(value: Value | None) -> bool:
    """Whether the value is known before the model runs.

    An initializer that is also a graph input can be overridden by the caller from IR version 4 on, so
    it is not constant (loading turns those of earlier IR versions into plain initializers).
    """
    if value is None or value.is_graph_input():
        return False
    if value.is_initializer():
        return value.const_value is not None
    node = value.producer()
    return node is not None and is_standard(node, "Constant") and _constant_attribute(node) is not None


def constant(value: Value | None) -> np.ndarray | None:
    """The array of a constant value, else None. The array may be a read-only view of the file: don't write to it."""
    if value is None or not is_constant(value):
        return None
    if value.is_initializer():
        assert value.const_value is not None
        return value.const_value.numpy()
    node = value.producer()
    assert node is not None
    attribute = _constant_attribute(node)
    return None if attribute is None else _attribute_array(attribute)


def scalar(value: Value | None) -> float | None:
    """The number of a constant that holds exactly one, else None."""
    array = constant(value)
    if array is None or array.size != 1 or array.dtype.kind not in "biuf":
        return None
    return float(array.reshape(-1)[0])


def producer(value: Value | None, *op_types: str) -> Node | None:
    """The standard node that computes ``value``, if it is one of ``op_types`` (or any, when none are given)."""
    node = None if value is None else value.producer()
    return node if node is not None and is_standard(node, *op_types) else None


def readers(value: Value) -> list[Node]:
    """Nodes that read the value, each once, in the order of the uses; nodes of subgraphs included."""
    return list(dict.fromkeys(use.node for use in value.uses()))


def only_reader(value: Value, node: Node) -> bool:
    """Whether ``node`` is the one reader of ``value`` and the value is no graph output."""
    return not value.is_graph_output() and readers(value) == [node]


def reads(node: Node) -> Iterator[Value]:
    """What the node reads, values that its subgraphs capture included."""
    yield from (value for value in node.inputs if value is not None)
    for subgraph in subgraphs_of(node):
        for inner in subgraph:
            yield from reads(inner)
        yield from (value for value in subgraph.outputs if value.producer() is None or value.graph is not subgraph)


def has_one_use(value: Value) -> bool:
    """Whether the value is read exactly once and is no graph output."""
    return not value.is_graph_output() and len(value.uses()) == 1


def input_of(node: Node, index: int) -> Value | None:
    """The input at ``index``, or None where it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def present_outputs(node: Node) -> list[Value]:
    """The outputs that the node really has: one that is optional and left out has an empty name and no place."""
    return [output for output in node.outputs if output.name != ""]


def first_non_constant(values: Iterable[Value | None]) -> Value | None:
    """The first present value that is not constant, or None when all are."""
    return next((value for value in values if value is not None and not is_constant(value)), None)


class HasAttributes(Protocol):
    """A node, or a view of one whose attributes are known otherwise."""

    @property
    def attributes(self) -> Mapping[str, Attr]:
        """Attributes by name."""


def int_attribute(node: HasAttributes, name: str, default: int) -> int:
    """An integer attribute or its default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def float_attribute(node: HasAttributes, name: str, default: float) -> float:
    """A float attribute or its default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def string_attribute(node: HasAttributes, name: str, default: str) -> str:
    """A string attribute or its default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()


def ints_attribute(node: HasAttributes, name: str) -> tuple[int, ...] | None:
    """An integer-list attribute, or None where it is absent."""
    attribute = node.attributes.get(name)
    return None if attribute is None else tuple(attribute.as_ints())


def floats_attribute(node: HasAttributes, name: str) -> tuple[float, ...] | None:
    """A float-list attribute, or None where it is absent."""
    attribute = node.attributes.get(name)
    return None if attribute is None else tuple(attribute.as_floats())


def strings_attribute(node: HasAttributes, name: str) -> tuple[str, ...] | None:
    """A string-list attribute, or None where it is absent."""
    attribute = node.attributes.get(name)
    return None if attribute is None else tuple(attribute.as_strings())


def static_shape(value: Value | None) -> tuple[int, ...] | None:
    """The shape as integers when the rank and every dimension are known, else None."""
    dims = dims_of(value)
    if dims is None or any(dim is None for dim in dims):
        return None
    return tuple(dim for dim in dims if dim is not None)


def dims_of(value: Value | None) -> tuple[int | None, ...] | None:
    """The dimensions, None for each that is symbolic or unknown; None when even the rank is unknown."""
    if value is None:
        return None
    if value.is_initializer() and value.const_value is not None and not value.is_graph_input():
        return tuple(int(dim) for dim in value.const_value.shape)  # type: ignore[arg-type]
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape)


def symbolic_dims(value: Value) -> tuple[int | str | None, ...] | None:
    """The dimensions as declared: sizes, names, None for nameless ones; None when even the rank is unknown."""
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)


def rank_of(value: Value | None) -> int | None:
    """The number of axes, or None when unknown."""
    dims = dims_of(value)
    return None if dims is None else len(dims)


def dims_text(dims: Iterable[int | SymbolicDim | str | None]) -> str:
    """How messages show a shape: ``[batch, 3, ?]``."""
    names = (dim.value if isinstance(dim, SymbolicDim) else dim for dim in dims)
    return f"[{', '.join('?' if name is None else str(name) for name in names)}]"


def label(item: Node | Value | None) -> str:
    """How messages and reports call a node or a value; a nameless node is called by the first output that it has."""
    if item is None:
        return "(absent)"
    if item.name:
        return item.name
    if isinstance(item, Node):
        return f"{item.op_type} -> {next((output.name for output in present_outputs(item)), '')}"
    return "(unnamed value)"


def subgraphs_of(node: Node) -> Iterator[Graph]:
    """The graphs that the node holds as attributes, not those nested deeper."""
    for attribute in attributes_of(node):
        if attribute.type in _GRAPH_TYPES and not attribute.is_ref():
            if attribute.type == AttributeType.GRAPH:
                yield attribute.as_graph()
            else:
                yield from attribute.as_graphs()


def _constant_attribute(node: Node) -> Attr | None:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings"):
        attribute = node.attributes.get(name)
        if attribute is not None and not attribute.is_ref():
            return attribute
    return None


def _attribute_array(attribute: Attr) -> np.ndarray:
    if attribute.type == AttributeType.TENSOR:
        return tensor_of(attribute).numpy()
    if attribute.type in (AttributeType.STRING, AttributeType.STRINGS):
        return np.array(attribute.value, dtype=object)
    is_float = attribute.type in (AttributeType.FLOAT, AttributeType.FLOATS)
    return np.array(attribute.value, dtype=np.float32 if is_float else np.int64)
