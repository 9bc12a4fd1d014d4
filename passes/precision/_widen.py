"""Giving the values of a model the type float32: which cannot follow, and the casts between them and the others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from graphpress.ir import (
    AttributeType,
    DataType,
    Editor,
    LazyTensor,
    Model,
    Node,
    Refusal,
    Shape,
    Tensor,
    TensorProtocol,
    TensorType,
    Value,
    int_attribute,
    is_constant,
    is_standard,
    present_outputs,
    subgraphs_of,
)
from graphpress.ir.encoding import EncodedTensor
from graphpress.ir.signatures import known_types, signature_of

_FLOAT = DataType.FLOAT
_TYPE_ATTRIBUTES = ("dtype", "output_datatype", "output_dtype", "precision", "to")
"""Attributes that name the type of a result."""
_REINTERPRETS = "BitCast"
_EXPORT = "export the model in float32"


class Widening:
    """A model on its way to float32, in place. Bodies of functions, which serve several types at once, keep theirs.

    Args:
        model: any.
        types: the types that become float32.
    """

    def __init__(self, model: Model, types: frozenset[DataType]) -> None:
        self._model, self._types, self._edit = model, types, Editor(model)
        self._bodies = [model.graph, *model.graph.subgraphs()]
        self._known = known_types(model)
        self._fixed = {value for value in self._values() if self._is_concerned(value) and self._is_border(value)}
        self.pending = [value for value in self._values() if self._is_concerned(value) and value not in self._fixed]
        """Values that are to become float32, or to get a cast that brings them there."""

    @cached_property
    def rigid(self) -> dict[Node, None]:
        """The nodes that have to do with those types and have no float32."""
        return {node: None for body in self._bodies for node in body if not self._follows(node)}

    def obstacles(self) -> Iterator[Refusal]:
        """Why the model as a whole cannot be converted."""
        for value in self._values():
            if value.type is not None and not isinstance(value.type, TensorType):
                if value.type.dtype in self._types:
                    yield Refusal.at(value, "it holds tensors in a sequence, which keep their type", _EXPORT)
            elif value not in self._known:
                yield Refusal.at(value, "its type is not known", "export the model with the types of its values")
        for node in self.rigid:
            if next(subgraphs_of(node), None) is not None:
                yield Refusal.at(node, "it holds graphs, and its operator is not of the ONNX standard", _EXPORT)

    def write(self) -> None:
        """Convert everything that can follow; casts stand around the rest, and at public inputs and outputs."""
        following = [node for body in self._bodies for node in body if node not in self.rigid]
        for node in self.rigid:
            self._isolate(node)
        for value in self._model.graph.inputs:
            if self._is_concerned(value) and value not in self._fixed:
                self._cast_behind(value)
        for value in list(self._model.graph.outputs):
            if self._is_concerned(value) and value not in self._fixed:
                self._edit.replace_output(value, self._cast(value, self._known[value]))
        for value in self.pending:
            if value not in self._fixed:
                _convert_value(value)
        for node in following:
            if self._fixed.isdisjoint(node.outputs):
                self._convert_attributes(node)

    def _values(self) -> Iterator[Value]:
        for body in self._bodies:
            yield from body.inputs
            yield from (value for value in body.initializers.values() if not value.is_graph_input())
            for node in body:
                yield from present_outputs(node)

    def _is_concerned(self, value: Value | None) -> bool:
        return value is not None and self._known.get(value) in self._types

    def _is_border(self, value: Value) -> bool:
        """Whether it lies between what keeps its type: public ends, rigid nodes, and casts."""
        inner = value.is_graph_output() and value not in self._model.graph.outputs
        node = value.producer()
        known = value in self._model.graph.inputs or is_constant(value) if node is None else self._keeps_types(node)
        return known and not inner and all(self._keeps_types(use.node) for use in value.uses())

    def _keeps_types(self, node: Node) -> bool:
        return node in self.rigid or is_standard(node, "Cast")

    def _follows(self, node: Node) -> bool:
        """Whether the operator computes in float32 as well, or has nothing to do with the types in question."""
        signature = signature_of(node)
        if signature is None or is_standard(node, _REINTERPRETS):
            return not any(map(self._is_concerned, (*node.inputs, *node.outputs)))
        return all(
            signature.allows(formals[min(index, len(formals) - 1)].variable, _FLOAT)
            for values, formals in ((node.inputs, signature.inputs), (node.outputs, signature.outputs))
            for index, value in enumerate(values)
            if self._is_concerned(value)
        )

    def _isolate(self, node: Node) -> None:
        """Let a node read and make the types that it knows."""
        for index, value in enumerate(node.inputs):
            if value is not None and self._is_concerned(value) and value not in self._fixed:
                self._edit.set_input(node, index, self._cast(value, self._known[value], before=node))
        for value in present_outputs(node):
            if self._is_concerned(value) and value not in self._fixed:
                self._cast_behind(value)

    def _cast_behind(self, value: Value) -> None:
        """Let a value keep its type, and everybody who follows read it in float32."""
        self._fixed.add(value)
        uses = [use for use in value.uses() if use.node not in self.rigid]
        inner = value.is_graph_output() and value not in self._model.graph.outputs
        if uses or inner:
            result = self._cast(value, _FLOAT)
            for use in uses:
                self._edit.set_input(use.node, use.idx, result)
            if inner:
                self._edit.replace_output(value, result)
                result.type = TensorType(_FLOAT)

    def _cast(self, value: Value, to: DataType, *, before: Node | None = None) -> Value:
        """The value in another type, made right behind it unless a place is given."""
        stem, after = f"{value.name}_{to.name.lower()}", None if before is not None else value.producer()
        if before is None and after is None and value.graph is not None:
            before = value.graph[0]
        node = self._edit.add_node("Cast", [value], {"to": int(to)}, before=before, after=after, name=stem)
        (result,) = node.outputs
        self._edit.copy_type(value, result)
        result.type = TensorType(to)
        return result

    def _convert_attributes(self, node: Node) -> None:
        """Let a node name float32 where it named one of the types, and hold it."""
        if not is_standard(node):
            return
        for name in _TYPE_ATTRIBUTES:
            if int_attribute(node, name, 0) in self._types:
                self._edit.set_attributes(node, **{name: int(_FLOAT)})
        for name, attribute in list(node.attributes.items()):
            if attribute.type == AttributeType.TENSOR and attribute.as_tensor().dtype in self._types:
                self._edit.set_attributes(node, **{name: _convert_tensor(attribute.as_tensor())})


def _convert_value(value: Value) -> None:
    if value.const_value is not None:
        value.const_value = _convert_tensor(value.const_value)
    value.type = TensorType(_FLOAT)


def _convert_tensor(tensor: TensorProtocol) -> TensorProtocol:
    """A constant in float32, made when it is needed; one that is stored as integers stays that."""
    if isinstance(tensor, EncodedTensor):
        return EncodedTensor(tensor.codes, tensor.encoding, _FLOAT, tensor.name)
    shape = Shape(tensor.shape.numpy())
    return LazyTensor(lambda: Tensor(to_float32(tensor.numpy())), dtype=_FLOAT, shape=shape, name=tensor.name)


def to_float32(array: np.ndarray) -> np.ndarray:
    """The nearest numbers in float32; what is finite stays finite, such as the lowest double of a mask."""
    limit = np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32)
    return np.where(np.isinf(rounded) & np.isfinite(array), np.copysign(limit, array), rounded).astype(np.float32)
