"""One node being lowered: what it reads, what it says, and the layers it becomes.

A rule takes a ``Call`` and gives the tensors of the node's outputs; an array in place of a tensor is an output that is
known already, which becomes a constant only where a layer reads it. A rule refuses by ``raise call.refuse(why, fix)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphpress.backends.tensorrt.network.layers import Layers, Size, Tensor
from graphpress.backends.tensorrt.network.scope import Scope
from graphpress.backends.tensorrt.network.types import onnx_type, tensorrt_type
from graphpress.ir import DataType, Graph, Node, Value, input_of, opset_of

NEWEST_OPSET = 1_000
"""Stands for a graph that declares no standard operator set: rules as of today."""


class Call(Layers):
    """A node, its operands and the layers it becomes.

    Args:
        node: the node.
        scope: what its inputs stand for.
    """

    def __init__(self, node: Node, scope: Scope) -> None:
        place = scope.place
        super().__init__(place.trt, place.network, name_of(node), place.held)
        self.node, self.scope, self.strong = node, scope, place.strong
        self.opset = opset_of(node) or NEWEST_OPSET

    # -- operands -----------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many inputs are listed, absent ones in between included."""
        return len(self.node.inputs)

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return input_of(self.node, index) is not None

    def tensor(self, index: int) -> Tensor:
        """An input as a tensor; a constant becomes a constant layer.

        Raises:
            ModelError: it is absent.
        """
        return self.scope.tensor(self._value(index))

    def optional(self, index: int) -> Tensor | None:
        """An input as a tensor, None where it is absent."""
        return self.tensor(index) if self.has(index) else None

    def tensors(self) -> list[Tensor]:
        """All inputs that are given."""
        return [self.tensor(index) for index in range(self.count) if self.has(index)]

    def constant(self, index: int) -> np.ndarray | None:
        """The array of an input that is known, None where it is absent or computed at run time."""
        value = input_of(self.node, index)
        return None if value is None else self.scope.array(value)

    def known(self, index: int, role: str) -> np.ndarray:
        """The array of an input that must be known.

        Raises:
            ModelError: it is absent or computed at run time; ``role`` says what it is in the message.
        """
        array = self.constant(index)
        if array is None:
            raise self.refuse(f"{role} (input {index}) is not constant", "fold constants, or make it an initialiser")
        return array

    def number_of(self, index: int, role: str, default: float) -> float:
        """The one number of an input that must be known where it is given.

        Raises:
            ModelError: it is computed at run time or holds more than one.
        """
        if not self.has(index):
            return default
        array = self.known(index, role)
        if array.size != 1:
            raise self.refuse(f"{role} (input {index}) holds {array.size} numbers, not one")
        return float(array.reshape(-1)[0])

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of an input, -1 where a size is open."""
        array = self.constant(index)
        return tuple(array.shape) if array is not None else tuple(int(dim) for dim in self.tensor(index).shape)

    def rank(self, index: int) -> int:
        """How many axes an input has."""
        return len(self.shape(index))

    def static_shape(self, index: int, role: str) -> tuple[int, ...]:
        """The shape of an input that must have no open size.

        Raises:
            ModelError: it has one.
        """
        shape = self.shape(index)
        if -1 in shape:
            raise self.refuse(f"{role} (input {index}) has open dimensions {shape}", "give it a fixed shape")
        return shape

    def vector(self, index: int) -> list[Size]:
        """The integers of a one-dimensional input of known length: each an ``int``, or a tensor of one at run time.

        Raises:
            ModelError: its length is open, or it is no vector.
        """
        array = self.constant(index)
        if array is not None:
            return [int(item) for item in array.reshape(-1)]
        tensor = self.tensor(index)
        if len(tensor.shape) != 1 or tensor.shape[0] < 0:
            raise self.refuse(f"input {index} is no vector of known length", "give it a fixed length")
        tensor = self.as_index(tensor)
        return [self.entry(tensor, position) for position in range(tensor.shape[0])]

    # -- results ------------------------------------------------------------------------------------------------

    def wants(self, index: int) -> bool:
        """Whether an output is listed, and read or public."""
        outputs = self.node.outputs
        return index < len(outputs) and bool(outputs[index].uses() or outputs[index].is_graph_output())

    # -- attributes ---------------------------------------------------------------------------------------------

    def integer(self, name: str, default: int) -> int:
        """An integer attribute or its default."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_int()

    def number(self, name: str, default: float) -> float:
        """A float attribute or its default."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_float()

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """A list of floats, None where the attribute is absent."""
        attribute = self.node.attributes.get(name)
        return None if attribute is None else tuple(attribute.as_floats())

    def text(self, name: str, default: str) -> str:
        """A string attribute or its default."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_string()

    def integers(self, name: str, index: int | None = None, role: str = "") -> tuple[int, ...] | None:
        """Integers that older operator sets give as an attribute and newer ones as an input, None where neither is.

        Raises:
            ModelError: the input is computed at run time.
        """
        attribute = self.node.attributes.get(name)
        if attribute is not None:
            return tuple(attribute.as_ints())
        if index is None or not self.has(index):
            return None
        return tuple(int(item) for item in self.known(index, role or name).reshape(-1))

    def type_attribute(self, name: str) -> DataType | None:
        """An element type that an attribute gives, None where it is absent."""
        attribute = self.node.attributes.get(name)
        return None if attribute is None else DataType(attribute.as_int())

    def graph(self, name: str) -> Graph:
        """A subgraph."""
        return self.node.attributes[name].as_graph()

    def flags(self, name: str, count: int) -> tuple[int, ...]:
        """A list of so many integers, zeros where the attribute is absent."""
        return self.integers(name) or (0,) * count

    def axis(self, default: int, rank: int) -> int:
        """The attribute ``axis``, counted from the front.

        Raises:
            ModelError: there is no such axis.
        """
        return self.from_front(self.integer("axis", default), rank)

    def from_front(self, axis: int, rank: int) -> int:
        """An axis counted from the front.

        Raises:
            ModelError: there is no such axis.
        """
        if not -rank <= axis < max(rank, 1):
            raise self.refuse(f"axis {axis} does not exist in a tensor of rank {rank}", "correct the axis")
        return axis % max(rank, 1)

    # -- types --------------------------------------------------------------------------------------------------

    def type(self, index: int) -> DataType:
        """The element type of an input.

        Raises:
            ModelError: it is absent.
        """
        array = self.constant(index)
        return onnx_type(self.tensor(index).dtype) if array is None else DataType.from_numpy(array.dtype)

    def tensorrt_type(self, dtype: DataType) -> object:
        """TensorRT's name for an element type.

        Raises:
            ModelError: it has none.
        """
        return tensorrt_type(self.trt, dtype, f"node {self.name!r}")

    def _value(self, index: int) -> Value:
        value = input_of(self.node, index)
        if value is None:
            raise self.refuse(f"input {index} is absent", "check the model with onnx.checker.check_model")
        return value


Result = Tensor | np.ndarray
"""What a rule gives for one output."""
Rule = Callable[[Call], "Result | Sequence[Result]"]
"""Lowers one node."""


def name_of(node: Node) -> str:
    """The name of a node; one without is named after its first output, as TensorRT's parser names it."""
    if node.name:
        return node.name
    return f"node_of_{node.outputs[0].name}" if node.outputs else node.op_type
