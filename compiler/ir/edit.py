"""The one interface that changes graphs.

Every helper keeps three invariants: a constant's array, shape and dtype change together; names of graph
inputs and outputs never change; every value name is unique in the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir

from graphpress.ir.encoding import (
    PREFIX,
    hand_over_encoding,
    invalidate_encoding,
    is_annotated,
    override_use,
    read_encoding,
    set_encoding,
)
from graphpress.ir.foreign import is_defined
from graphpress.ir.meta import texts
from graphpress.ir.opaque import opaque_nodes
from graphpress.ir.sparsity import set_sparsity
from graphpress.ir.types import Function, Graph, Model, Node, Shape, Tensor, TensorProtocol, Value
from graphpress.ir.values import graphs, has_one_use, input_of, is_constant, is_standard, producer


class Editor:
    """Edits one model. Make one per pass: it knows all names in use, so fresh ones cost nothing."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._bodies = {function.graph for function in model.functions.values()}
        self._counts: dict[str, int] = {}

    @cached_property
    def _names(self) -> set[str]:
        """Every name in use; collected when the first fresh one is asked for, since most edits need none."""
        return {name for graph in graphs(self.model) for name in _names_in(graph)}

    # -- adding ---------------------------------------------------------------------------------------

    def fresh_name(self, stem: str) -> str:
        """A value or node name that is not in use, beginning with ``stem``."""
        name, count = stem, self._counts.get(stem, 1)
        while name in self._names:
            name, count = f"{stem}_{count}", count + 1
        self._names.add(name)
        self._counts[stem] = count
        return name

    def add_constant(self, array: np.ndarray | TensorProtocol, name: str, graph: Graph | None = None) -> Value:
        """Add a constant (to the main graph by default) and return its value.

        It is an initializer, or a ``Constant`` node in the body of a function, which has no initializers.
        """
        owner = self.model.graph if graph is None else graph
        if owner in self._bodies:
            node = onnx_ir.node("Constant", [], {"value": _tensor(array)})
            node.name, node.outputs[0].name = self.fresh_name(f"{name}_Constant"), self.fresh_name(name)
            owner.insert_before(owner[0], node)
            return node.outputs[0]
        tensor = _tensor(array)
        value = Value(
            name=self.fresh_name(name),
            shape=Shape(tensor.shape.numpy()),
            type=onnx_ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        owner.register_initializer(value)
        return value

    def add_constant_for(self, node: Node, array: np.ndarray | TensorProtocol, name: str) -> Value:
        """Add a constant that ``node`` can read, whatever kind of graph it is in."""
        return self.add_constant(array, name, _owner(node))

    def add_node(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        before: Node | None = None,
        after: Node | None = None,
        domain: str = "",
        outputs: int = 1,
        name: str | None = None,
    ) -> Node:
        """Insert a node ahead of ``before`` or behind ``after``; its outputs have fresh names and, as yet, no type."""
        beside = before if before is not None else after
        assert beside is not None, "the node needs a place"
        stem = name or f"{beside.name or beside.op_type}_{op_type}"
        node = onnx_ir.node(op_type, inputs, _given(attributes), domain=domain, num_outputs=outputs)
        node.name = self.fresh_name(stem)
        for index, output in enumerate(node.outputs):
            output.name = self.fresh_name(f"{stem}_out{index if outputs > 1 else ''}")
        if before is not None:
            _owner(beside).insert_before(beside, node)
        else:
            _owner(beside).insert_after(beside, node)
        return node

    # -- changing -------------------------------------------------------------------------------------

    def set_constant(self, value: Value, array: np.ndarray | TensorProtocol) -> None:
        """Give an initializer new contents: array, shape and dtype at once, for every reader."""
        tensor = _tensor(array)
        value.const_value = tensor
        value.shape = Shape(tensor.shape.numpy())
        value.type = onnx_ir.TensorType(tensor.dtype)
        invalidate_encoding(value, "its contents were replaced")
        set_sparsity(value, None)

    def own_constant(
        self, node: Node, index: int, array: np.ndarray | TensorProtocol, name: str | None = None
    ) -> Value:
        """Let one input of ``node`` read a constant with these contents; other readers keep theirs.

        An encoding in which the node read the input before does not hold for the new contents: it is invalidated.
        """
        old = node.inputs[index] if index < len(node.inputs) else None
        stem = name or (old.name if old is not None and old.name else f"{node.name or node.op_type}_constant")
        if old is not None and old.is_initializer() and is_constant(old) and has_one_use(old):
            self.set_constant(old, array)
            return old
        encoding = None if old is None else read_encoding(node, index)
        new = self.add_constant_for(node, array, stem)
        self.set_input(node, index, new)
        override_use(node, index, None)
        set_encoding(new, encoding)
        invalidate_encoding(new, "its contents were replaced")
        self.drop_if_unused(old)
        return new

    def set_input(self, node: Node, index: int, value: Value | None) -> None:
        """Connect one input, growing the list of inputs where it is too short."""
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        node.replace_input_with(index, value)

    def set_attributes(self, node: Node, **attributes: Any) -> None:
        """Set attributes from Python values; None removes one."""
        for name, value in attributes.items():
            if value is None:
                node.attributes.pop(name, None)
            else:
                node.attributes[name] = onnx_ir.convenience.convert_attribute(name, value)

    def copy_type(self, source: Value, target: Value) -> None:
        """Give ``target`` the dtype and shape that ``source`` is known to have."""
        target.type = source.type
        target.shape = None if source.shape is None else source.shape.copy()

    def put_behind(self, result: Value, op_type: str, operands: Sequence[Value], *, after: Node, name: str) -> Value:
        """Insert a node that reads a result, and operands; what read the result reads what the node makes instead."""
        places = [(use.node, use.idx) for use in result.uses()]
        made = self.add_node(op_type, [result, *operands], after=after, name=name).outputs[0]
        self.copy_type(result, made)
        for reader, place in places:
            self.set_input(reader, place, made)
        if result.is_graph_output():
            self.replace_output(result, made)
        return made

    # -- replacing and removing -----------------------------------------------------------------------

    def can_replace(self, old: Value, new: Value) -> bool:
        """Whether ``new`` can replace ``old`` everywhere, graph outputs and their names included."""
        if not old.is_graph_output():
            return True
        producer = new.producer()
        return (
            producer is not None
            and producer.graph is not None
            and old.producer() is not None
            and producer.graph is _owner_of_value(old)
            and not new.is_graph_output()
        )

    def replace(self, old: Value, new: Value) -> None:
        """Let every reader of ``old`` read ``new``; a graph output keeps its public name, metadata and declared
        type.

        Encodings that the readers read in are handed over.

        Raises:
            ValueError: ``can_replace`` is false; check it first.
        """
        if old is new:
            return
        if not self.can_replace(old, new):
            raise ValueError(f"{new.name!r} cannot replace the graph output {old.name!r}")
        hand_over_encoding(old, new)
        if old.is_graph_output():
            self.replace_output(old, new)
        elif new.shape is None and old.shape is not None and not is_constant(new):
            self.copy_type(old, new)
        old.replace_all_uses_with(new)

    def replace_output(self, old: Value, new: Value) -> None:
        """Let ``new`` be the graph output that ``old`` was, under its public name; readers of ``old`` keep it."""
        owner = _owner_of_value(old)
        assert owner is not None
        public = old.name
        old.name = self.fresh_name(f"{public}_replaced")
        new.name = public
        self.copy_type(old, new)
        new.doc_string = old.doc_string
        new.metadata_props.update({key: text for key, text in texts(old).items() if not key.startswith(PREFIX)})
        for index, output in enumerate(owner.outputs):
            if output is old:
                owner.outputs[index] = new

    def lift(self, value: Value, graph: Graph) -> None:
        """Move an initializer that is no output of its graph into one around it, under a name that is free there."""
        owner = value.graph
        assert isinstance(owner, Graph)
        del owner.initializers[value.name or ""]
        value.name = self.fresh_name(value.name or "constant")
        graph.register_initializer(value)

    def remove(self, *nodes: Node) -> None:
        """Remove nodes whose outputs nobody reads, and the initializers that only they read."""
        for node in nodes:
            inputs = list(node.inputs)
            _owner(node).remove(node, safe=True)
            for value in inputs:
                self.drop_if_unused(value)

    def remove_unread(self, node: Node | None, *op_types: str) -> None:
        """Remove a node of one of these operators whose results nobody reads any more, and those before it likewise."""
        while node is not None and is_standard(node, *op_types):
            if any(value.uses() or value.is_graph_output() for value in node.outputs):
                return
            before = producer(input_of(node, 0))
            self.remove(node)
            node = before

    def drop_if_unused(self, value: Value | None) -> None:
        """Drop an initializer that has no reader left; public inputs and outputs stay."""
        if value is None or value.uses() or value.is_graph_output() or value.is_graph_input():
            return
        if value.is_initializer():
            graph = value.graph
            assert isinstance(graph, Graph)
            del graph.initializers[value.name or ""]
            return
        node = value.producer()
        if node is not None and node.op_type == "Constant" and node.graph is not None:
            node.graph.remove(node, safe=True)


def declares_inner_shapes(model: Model) -> bool:
    """Whether a result of a standard operator that is no graph output has a shape: then viewers show the sizes."""
    return any(
        value.shape is not None and not value.is_graph_output()
        for graph in graphs(model)
        for node in graph
        if is_defined(node)
        for value in node.outputs
    )


def take_over(model: Model, other: Model) -> None:
    """Let ``model`` become what ``other`` is, in place; ``other`` must not be used afterwards."""
    model.graph = other.graph
    model.functions.clear()
    model.functions.update(other.functions)
    model.metadata_props.clear()
    model.metadata_props.update(other.metadata_props)
    for name in (
        "ir_version",
        "producer_name",
        "producer_version",
        "domain",
        "model_version",
        "doc_string",
        "device_configurations",
    ):
        setattr(model, name, getattr(other, name))


def forget_inner_types(model: Model) -> None:
    """Drop the inferred types of inner values, in place: whoever loads the model infers them again.

    What standard operators compute can be inferred, unless they hold an opaque one; the declared types of others, of
    graph outputs and of annotated values stay.
    """
    opaque = set(opaque_nodes(model))
    for graph in graphs(model):
        for node in graph:
            for value in node.outputs if is_defined(node) and node not in opaque else ():
                if not value.is_graph_output() and not texts(value) and not is_annotated(value):
                    value.shape, value.type = None, None


def _tensor(contents: np.ndarray | TensorProtocol) -> TensorProtocol:
    """Contents as a tensor; ``onnx_ir.tensor`` takes anything, and is slow to find out what it was given."""
    return Tensor(contents) if isinstance(contents, (np.ndarray, np.generic)) else contents


def _given(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (attributes or {}).items() if value is not None}


def _owner(node: Node) -> Graph:
    """The graph that holds the node; for a function's node that is the function's inner graph."""
    assert isinstance(node.graph, Graph), f"{node.name} is in no graph"
    return node.graph


def _owner_of_value(value: Value) -> Graph | Function | None:
    node = value.producer()
    return value.graph if node is None else node.graph


def _names_in(graph: Graph | Function) -> Iterable[str]:
    for value in graph.inputs:
        yield value.name or ""
    if isinstance(graph, Graph):
        yield from graph.initializers
    for node in graph:
        yield node.name or ""
        for output in node.outputs:
            yield output.name or ""
