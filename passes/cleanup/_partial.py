"""Integer tensors of which only some elements are known: what shape arithmetic computes.

A partial tensor is an object array whose elements are ints or tokens. Two equal tokens are the same size at run time:
the symbol of a dimension, or a value and its axis where it has no name. Moving elements about (Gather, Concat, Slice,
Unsqueeze, ...) keeps tokens; arithmetic on a token makes a new one, equal to nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphpress.ir import DataType, Node, Value, constant, is_standard
from graphpress.passes.cleanup._kernels import evaluate

SMALL = 64
"""Elements up to which a tensor is taken for a shape."""
MOVES = frozenset(("Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"))
ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
}
INTEGERS = (6, 7)
"""Values of int32 and int64 in ``Cast``'s ``to``."""


@dataclass(frozen=True)
class Token:
    """A size that is not known ahead; equal tokens are equal sizes."""

    source: Hashable
    axis: int = 0


@dataclass
class Partials:
    """What is known of the small integer tensors, found by one walk in topological order."""

    known: dict[Value, np.ndarray] = field(default_factory=dict)

    def visit(self, node: Node) -> np.ndarray | None:
        """Work out the node's single result; None when it is no shape arithmetic."""
        if not is_standard(node) or len(node.outputs) != 1 or not node.inputs:
            return None
        result = self._result(node)
        if result is not None and result.size <= SMALL and _is_in_range(result, node.outputs[0]):
            self.known[node.outputs[0]] = result
            return result
        return None

    def of(self, value: Value | None) -> np.ndarray | None:
        """The partial tensor of a value, if it has one; constants are fully known."""
        if value is None:
            return None
        if value not in self.known:
            array = constant(value)
            if array is None or array.size > SMALL or array.dtype not in (np.int32, np.int64):
                return None
            self.known[value] = array.astype(object)
        return self.known[value]

    def _result(self, node: Node) -> np.ndarray | None:
        if node.op_type in ("Shape", "Size"):
            return _shape_or_size(node)
        first = self.of(node.inputs[0])
        if first is None:
            return None
        if node.op_type == "Cast":
            return first if node.attributes["to"].as_int() in INTEGERS else None
        if node.op_type in ARITHMETIC and len(node.inputs) == 2 and not node.attributes:
            second = self.of(node.inputs[1])
            return None if second is None else _combine(ARITHMETIC[node.op_type], first, second)
        if node.op_type not in MOVES:
            return None
        operands = [self.of(value) for value in node.inputs]
        if any(array is None and value is not None for array, value in zip(operands, node.inputs, strict=True)):
            return None
        if any(array is not None and not _is_known(array) for array in operands[1:]) and node.op_type != "Concat":
            return None
        if len(operands) > 1 and node.op_type != "Concat":
            operands = [first, *(None if array is None else array.astype(np.int64) for array in operands[1:])]
        return evaluate(node, operands)


def _is_in_range(result: np.ndarray, value: Value) -> bool:
    """Whether no known number wraps round in the type of the value."""
    bounds = np.iinfo(np.int32 if value.dtype == DataType.INT32 else np.int64)
    return all(bounds.min <= item <= bounds.max for item in result.reshape(-1) if isinstance(item, int))


def tokens_of(value: Value | None) -> tuple[int | Token, ...] | None:
    """The sizes of a value: ints where known, tokens elsewhere; None without a rank."""
    if value is None:
        return None
    tensor = value.const_value if value.is_initializer() and not value.is_graph_input() else None
    if tensor is not None:
        return tuple(int(size) for size in tensor.shape)  # type: ignore[arg-type]
    if value.shape is None:
        return None
    return tuple(_token(size, value, axis) for axis, size in enumerate(value.shape))


def _token(size: object, value: Value, axis: int) -> int | Token:
    if isinstance(size, int):
        return size
    symbol = getattr(size, "value", None)
    return Token(symbol) if symbol is not None else Token(value, axis)


def _shape_or_size(node: Node) -> np.ndarray | None:
    tokens = tokens_of(node.inputs[0])
    if tokens is None:
        return None
    if node.op_type == "Size":
        total = 1
        for size in tokens:
            if not isinstance(size, int):
                return _array([Token(object())]).reshape(())
            total *= size
        return _array([total]).reshape(())
    start = node.attributes["start"].as_int() if "start" in node.attributes else 0
    end = node.attributes["end"].as_int() if "end" in node.attributes else len(tokens)
    return _array(tokens[start:end])


def _combine(operator: Callable[[int, int], int], first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    def each(a: object, b: object) -> int | Token:
        if isinstance(a, int) and isinstance(b, int):
            return operator(a, b)
        return Token(object())

    try:
        pairs = np.broadcast(first, second)
        return _array([each(a, b) for a, b in pairs]).reshape(pairs.shape)
    except (ValueError, ZeroDivisionError):
        return None


def _array(items: Sequence[int | Token]) -> np.ndarray:
    return np.array(items, dtype=object)


def _is_known(array: np.ndarray) -> bool:
    return all(isinstance(item, int) for item in array.reshape(-1))


def known_integers(array: np.ndarray) -> np.ndarray | None:
    """The array as int64 when every element is known, else None."""
    return array.astype(np.int64) if _is_known(array) else None
