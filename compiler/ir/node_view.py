"""A node as rules read it: attributes with their defaults, optional inputs, constants, shapes, the operator set.

Whoever has a rule an operator (the operator table, a translation to another framework, a backend's lowering) gives its
rules one view a node, and keeps in a class of its own only what is peculiar to it. What is known of a node differs with
the reader: a function's attributes come from its caller, a weight that trains is no constant, shapes may follow from a
batch size. So attributes, contents and shapes are given to the view; by default they are those of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.ir.types import Attr, DataType, Graph, Node, Value
from graphpress.ir.values import (
    constant,
    float_attribute,
    floats_attribute,
    input_of,
    int_attribute,
    ints_attribute,
    opset_of,
    string_attribute,
    strings_attribute,
)

Dims = tuple[int, ...]
"""A static shape."""

NEWEST_OPSET = 1_000
"""That of a graph that declares no standard operator set: the newest rules."""


class UnknownShapeError(Exception):
    """A rule asked for a shape that is not known; the caller falls back, and reports it."""


class AxisError(IndexError):
    """An axis that a tensor of this rank does not have."""


def normalize_axis(axis: int, rank: int) -> int:
    """An axis counted from the front; a scalar counts as having axis 0.

    Raises:
        AxisError: there is no such axis.
    """
    if not -rank <= axis < max(rank, 1):
        raise AxisError(f"axis {axis} does not exist in a tensor of rank {rank}")
    return axis % max(rank, 1)


def constant_input(node: Node, index: int) -> np.ndarray | None:
    """The array of an input that is constant in the graph, None where it is absent or computed at run time."""
    return constant(input_of(node, index))


@dataclass(frozen=True, eq=False)
class NodeView:
    """One node with all that is known of it before the model runs.

    Args:
        node: the node.
        opset: the version of its operator set.
        attributes: its attributes by name.
        contents: from the node and the index of an input, the array that it is known to hold, else None.
        input_shapes: the static shape of each input, None where it is absent or unknown.
        output_shapes: the static shape of each output, None where it is unknown.
    """

    node: Node
    opset: int
    attributes: Mapping[str, Attr]
    contents: Callable[[Node, int], np.ndarray | None] = constant_input
    input_shapes: tuple[Dims | None, ...] = ()
    output_shapes: tuple[Dims | None, ...] = ()

    @staticmethod
    def of(
        node: Node,
        *,
        attributes: Mapping[str, Attr] | None = None,
        contents: Callable[[Node, int], np.ndarray | None] = constant_input,
        input_shapes: tuple[Dims | None, ...] = (),
        output_shapes: tuple[Dims | None, ...] = (),
    ) -> NodeView:
        """The view of a node in its graph, whose operator set and attributes hold unless others are given."""
        opset = opset_of(node) or NEWEST_OPSET
        own = node.attributes if attributes is None else attributes
        return NodeView(node, opset, own, contents, input_shapes, output_shapes)

    # -- the node -----------------------------------------------------------------------------------------------

    @property
    def op_type(self) -> str:
        """The operator."""
        return self.node.op_type

    @property
    def name(self) -> str:
        """Its name, empty where it has none."""
        return self.node.name or ""

    @property
    def inputs(self) -> Sequence[Value | None]:
        """The values that it reads, None where an optional one is absent."""
        return self.node.inputs

    @property
    def outputs(self) -> Sequence[Value]:
        """The values that it computes."""
        return self.node.outputs

    # -- operands -----------------------------------------------------------------------------------------------

    def input(self, index: int) -> Value | None:
        """The value of an input, None where it is absent."""
        return input_of(self.node, index)

    def has(self, index: int) -> bool:
        """Whether the optional input is given."""
        return input_of(self.node, index) is not None

    def constant(self, index: int) -> np.ndarray | None:
        """The array of an input that is known before the model runs, else None (absent inputs too)."""
        return self.contents(self.node, index)

    def scalar(self, index: int, name: str = "") -> float | None:
        """The one number of an input that is known, or of the attribute that older operator sets have for it."""
        attribute = self.attributes.get(name)
        if attribute is not None:
            return attribute.as_float()
        array = self.constant(index)
        if array is None or array.size != 1:
            return None
        number: float = array.reshape(-1)[0].item()
        return number

    # -- results ------------------------------------------------------------------------------------------------

    @property
    def output_count(self) -> int:
        """How many outputs are named: trailing ones without a name have no readers."""
        return max((index for index, value in enumerate(self.node.outputs, 1) if value.name), default=0)

    def uses_output(self, index: int) -> bool:
        """Whether an output is listed, and read or public."""
        outputs = self.node.outputs
        return index < len(outputs) and bool(outputs[index].uses() or outputs[index].is_graph_output())

    # -- shapes -------------------------------------------------------------------------------------------------

    def input_shape(self, index: int) -> Dims:
        """The shape of an input.

        Raises:
            UnknownShapeError: it is absent or unknown.
        """
        return _known(self.input_shapes, index, "input")

    def output_shape(self, index: int = 0) -> Dims:
        """The shape of an output.

        Raises:
            UnknownShapeError: it is absent or unknown.
        """
        return _known(self.output_shapes, index, "output")

    # -- attributes ---------------------------------------------------------------------------------------------

    def integer(self, name: str, default: int) -> int:
        """An integer attribute or its default."""
        return int_attribute(self, name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean attribute, which ONNX stores as an integer, or its default."""
        return bool(int_attribute(self, name, default))

    def number(self, name: str, default: float) -> float:
        """A float attribute or its default."""
        return float_attribute(self, name, default)

    def text(self, name: str, default: str) -> str:
        """A string attribute or its default."""
        return string_attribute(self, name, default)

    def integers(self, name: str, index: int | None = None) -> tuple[int, ...] | None:
        """Integers of an attribute, or of the input that newer operator sets have for it.

        Returns:
            The integers, or None where neither is given or the input is computed at run time.
        """
        given = ints_attribute(self, name)
        if given is not None or index is None:
            return given
        array = self.constant(index)
        return None if array is None else tuple(int(item) for item in array.reshape(-1))

    def integers_or_zeros(self, name: str, count: int) -> tuple[int, ...]:
        """A list of so many integers, zeros where the attribute is absent."""
        return ints_attribute(self, name) or (0,) * count

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """A list of floats, None where the attribute is absent."""
        return floats_attribute(self, name)

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of strings, None where the attribute is absent."""
        return strings_attribute(self, name)

    def element_type(self, name: str) -> DataType | None:
        """An element type, None where the attribute is absent or leaves it undefined."""
        code = self.integer(name, DataType.UNDEFINED)
        return None if code == DataType.UNDEFINED else DataType(code)

    def array(self, name: str) -> np.ndarray | None:
        """The array of a tensor attribute, None where it is absent."""
        attribute = self.attributes.get(name)
        return None if attribute is None else attribute.as_tensor().numpy()

    def graph(self, name: str) -> Graph:
        """A subgraph.

        Raises:
            KeyError: there is none of this name.
        """
        return self.attributes[name].as_graph()

    def axis(self, default: int, rank: int) -> int:
        """The attribute ``axis``, counted from the front.

        Raises:
            AxisError: there is no such axis.
        """
        return normalize_axis(self.integer("axis", default), rank)


def _known(shapes: tuple[Dims | None, ...], index: int, kind: str) -> Dims:
    shape = shapes[index] if index < len(shapes) else None
    if shape is None:
        raise UnknownShapeError(f"{kind} {index}")
    return shape
