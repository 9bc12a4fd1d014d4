"""One node being lowered: its inputs, its attributes, and the layers it becomes.

A rule takes a ``LoweringContext`` and gives the tensors of the node's outputs; an array in place of a tensor is an
output that is known already, which becomes a constant only where a layer reads it. A rule refuses by
``raise ctx.refuse(why, fix)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphpress.backends.tensorrt.network.layers import LayerBuilder, Size, Tensor
from graphpress.backends.tensorrt.network.scope import Scope
from graphpress.backends.tensorrt.network.types import is_float, onnx_type, tensorrt_type
from graphpress.ir import DataType, Node, NodeView, Value, input_of


class LoweringContext(LayerBuilder):
    """A node, its operands and the layers it becomes.

    Args:
        node: the node.
        scope: what its inputs stand for.

    Attributes:
        node: the node; an input is known where the scope knows its array.
    """

    def __init__(self, node: Node, scope: Scope) -> None:
        place = scope.place
        super().__init__(place.trt, place.network, name_of(node), place.held)
        self.scope, self.strong = scope, place.strong
        self.node = NodeView.of(node, contents=self._array)

    def _array(self, node: Node, index: int) -> np.ndarray | None:
        value = input_of(node, index)
        return None if value is None else self.scope.array(value)

    # -- operands -----------------------------------------------------------------------------------------------

    def tensor(self, index: int) -> Tensor:
        """An input as a tensor; a constant becomes a constant layer.

        Raises:
            ModelError: it is absent.
        """
        return self.scope.tensor(self._value(index))

    def optional(self, index: int) -> Tensor | None:
        """An input as a tensor, None where it is absent."""
        return self.tensor(index) if self.node.has(index) else None

    def tensors(self) -> list[Tensor]:
        """All inputs that are given."""
        return [self.tensor(index) for index in range(len(self.node.inputs)) if self.node.has(index)]

    def known(self, index: int, role: str) -> np.ndarray:
        """The array of an input that must be known.

        Raises:
            ModelError: it is absent or computed at run time; ``role`` names it in the message.
        """
        array = self.node.constant(index)
        if array is None:
            raise self.refuse(f"{role} (input {index}) is not constant", "fold constants, or make it an initializer")
        return array

    def known_integers(self, name: str, index: int, role: str = "") -> tuple[int, ...] | None:
        """Integers that older operator sets give as an attribute and newer ones as an input, None where neither is.

        Raises:
            ModelError: the input is computed at run time.
        """
        integers = self.node.integers(name)
        if integers is not None or not self.node.has(index):
            return integers
        return tuple(int(item) for item in self.known(index, role or name).reshape(-1))

    def number_of(self, index: int, role: str, default: float) -> float:
        """The one number of an input that must be known where it is given.

        Raises:
            ModelError: it is computed at run time or holds more than one.
        """
        if not self.node.has(index):
            return default
        array = self.known(index, role)
        if array.size != 1:
            raise self.refuse(f"{role} (input {index}) holds {array.size} numbers, not one")
        return float(array.reshape(-1)[0])

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of an input, -1 where a size is open."""
        array = self.node.constant(index)
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
        array = self.node.constant(index)
        if array is not None:
            return [int(item) for item in array.reshape(-1)]
        tensor = self.tensor(index)
        if len(tensor.shape) != 1 or tensor.shape[0] < 0:
            raise self.refuse(f"input {index} is no vector of known length", "give it a fixed length")
        tensor = self.as_index(tensor)
        return [self.entry(tensor, position) for position in range(tensor.shape[0])]

    # -- types --------------------------------------------------------------------------------------------------

    def type(self, index: int) -> DataType:
        """The element type of an input.

        Raises:
            ModelError: it is absent.
        """
        array = self.node.constant(index)
        return onnx_type(self.tensor(index).dtype) if array is None else DataType.from_numpy(array.dtype)

    def require_floats(self, *tensors: Tensor) -> None:
        """Refuse operands that TensorRT does not multiply.

        Raises:
            ModelError: one of them is no float.
        """
        for tensor in tensors:
            if not is_float(tensor.dtype):
                kind = tensor.dtype.name.lower()
                raise self.refuse(f"TensorRT computes this in floats only, not in {kind}", "cast the operands to float")

    def tensorrt_type(self, dtype: DataType) -> object:
        """TensorRT's name for an element type.

        Raises:
            ModelError: it has none.
        """
        return tensorrt_type(self.trt, dtype, f"node {self.name!r}")

    def _value(self, index: int) -> Value:
        value = self.node.input(index)
        if value is None:
            raise self.refuse(f"input {index} is absent", "check the model with onnx.checker.check_model")
        return value


Result = Tensor | np.ndarray
"""What a rule gives for one output."""
Rule = Callable[[LoweringContext], "Result | Sequence[Result]"]
"""Lowers one node."""


def name_of(node: Node) -> str:
    """The name of a node; one without is named after its first output, as TensorRT's parser names it."""
    if node.name:
        return node.name
    return f"node_of_{node.outputs[0].name}" if node.outputs else node.op_type
