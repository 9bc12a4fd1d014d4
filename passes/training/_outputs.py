"""What the outputs of a model mean, as far as a loss must know.

    Softmax or LogSoftmax behind a graph output      class probabilities along its axis
    Sigmoid behind it                                independent probabilities
    the only floating-point output, class scores     logits
    everything else                                  values: compared by mean squared difference

Class scores are ``[N, classes]`` with at least two classes (extents of 1 behind them, as global pooling leaves, don't
count), or ``[N, length, classes]`` straight out of a matrix product. With several outputs scores look like boxes, and a
distribution made of four coordinates is meaningless: values are right for both. An output that was made
unit length is an embedding: values, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphpress.ir import Model, Node, Value, dims_of, input_of, int_attribute, opset_of, producer

Kind = Literal["classes", "decisions", "values"]
LossName = Literal["auto", "kl", "mse"]

PLAIN = ("Identity", "Cast", "Dropout")
PRODUCTS = ("MatMul", "Gemm", "Add", "Einsum")
UNIT_LENGTH = ("LpNormalization", "Div")
OPSET_OF_ONE_AXIS = 13
"""Before it, Softmax flattens everything from its axis on."""


@dataclass(frozen=True)
class Reading:
    """How one output is read.

    Args:
        output: name of the graph output.
        value: name of the value that is compared: the output, or what goes into its Softmax or Sigmoid.
        kind: what it means.
        axis: along which classes lie, for ``classes``.
    """

    output: str
    value: str
    kind: Kind
    axis: int = -1


def read_outputs(model: Model, loss: LossName = "auto") -> list[Reading]:
    """How each floating-point output is read; others, such as an argmax, have no gradient and are left out.

    Args:
        model: the model, its shapes known as far as they can be.
        loss: ``kl`` takes everything that is no probability for logits along its class axis, ``mse`` for values.
    """
    floating = [value for value in model.graph.outputs if value.dtype is None or value.dtype.is_floating_point()]
    return [_read(value, loss, alone=len(floating) == 1) for value in floating]


def _read(output: Value, loss: LossName, *, alone: bool) -> Reading:
    name = output.name or ""
    if loss == "mse":
        return Reading(name, name, "values")
    node = _source(output)
    dims = dims_of(output)
    if node is not None and node.op_type in ("Softmax", "LogSoftmax"):
        axis = _class_axis(node, dims)
        if axis is not None:
            return Reading(name, _input_name(node), "classes", axis)
    if node is not None and node.op_type == "Sigmoid":
        return Reading(name, _input_name(node), "decisions")
    if loss == "kl" or (alone and _are_scores(dims, node)):
        return Reading(name, name, "classes", -1 if dims is not None and len(dims) == 3 else 1)
    return Reading(name, name, "values")


def _source(value: Value) -> Node | None:
    """The standard node that computes a value, looking through what changes nothing."""
    node = producer(value)
    while node is not None and node.op_type in PLAIN:
        node = producer(input_of(node, 0))
    return node


def _input_name(node: Node) -> str:
    value = input_of(node, 0)
    assert value is not None
    return value.name or ""


def _class_axis(node: Node, dims: tuple[int | None, ...] | None) -> int | None:
    """The axis of a Softmax; None where it flattens several: before opset 13, unless its axis is the last."""
    if (opset_of(node) or 0) >= OPSET_OF_ONE_AXIS:
        return int_attribute(node, "axis", -1)
    axis = int_attribute(node, "axis", 1)
    return axis if dims is not None and axis in (-1, len(dims) - 1) else None


def _are_scores(dims: tuple[int | None, ...] | None, node: Node | None) -> bool:
    if dims is None or len(dims) < 2 or (node is not None and node.op_type in UNIT_LENGTH):
        return False
    if len(dims) == 3 and dims[2] != 1:
        return node is not None and node.op_type in PRODUCTS
    return dims[1] != 1 and all(dim == 1 for dim in dims[2:])
