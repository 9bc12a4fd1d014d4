"""Integer tensors of which only some elements are known: what shape arithmetic computes.

A partial tensor is an object array whose elements are ints or tokens. Two equal tokens are the same size at run time:
the symbol of a dimension, a value and its axis where it has no name, or an operation on such sizes. Moving elements
about (Gather, Concat, Slice, Unsqueeze, ...) keeps tokens; arithmetic on a token makes one that is equal to the same
arithmetic on the same tokens. Comparing sizes with a negative number, which PyTorch writes ahead of every Expand, and
choosing by the answer is followed, too: no size is negative.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphpress.ir import DataType, Node, SymbolicDim, Value, constant, int_attribute, is_standard
from graphpress.passes.cleanup._kernels import evaluate
from graphpress.passes.cleanup._size_names import SizeNames

SMALL = 64
"""Elements up to which a tensor is taken for a shape."""
MOVES = frozenset(("Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"))
ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
}
NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}
"""Second operands that change nothing."""
COMMUTATIVE = frozenset(("Add", "Mul"))
INTEGERS = (6, 7)
"""Values of int32 and int64 in ``Cast``'s ``to``."""


@dataclass(frozen=True)
class Token:
    """A size that is not known ahead; equal tokens are equal sizes.

    Args:
        source: the symbol of a dimension, the value that has it, or None of what is computed from sizes.
        axis: of the value; a number of its own for each computation.
    """

    source: str | Value | None
    axis: int = 0

    @property
    def is_dimension(self) -> bool:
        """Whether it is the size of an axis, and so not negative."""
        return self.source is not None

    @property
    def symbol(self) -> str | None:
        """The name of the dimension, None of anything else."""
        return self.source if isinstance(self.source, str) else None


Size = int | Token


@dataclass
class Partials:
    """What is known of the small integer tensors, found by one walk in topological order.

    Args:
        names: which sizes are one.
        known: the tensors.
        computed: what arithmetic on sizes gave.
    """

    names: SizeNames
    known: dict[Value, np.ndarray] = field(default_factory=dict)
    computed: dict[tuple[str, Hashable], Token] = field(default_factory=dict)

    def visit(self, node: Node) -> np.ndarray | None:
        """Work out the node's single result; None when it is no shape arithmetic."""
        if not is_standard(node) or len(node.outputs) != 1 or not node.inputs:
            return None
        result = self._result(node)
        if result is None or result.size > SMALL:
            return None
        result = result.astype(object)  # numpy makes a lone element a number of its own kind again
        if not _is_in_range(result, node.outputs[0]):
            return None
        self.known[node.outputs[0]] = result
        return result

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
        if node.op_type == "Shape":
            return self._shape(node)
        if node.op_type == "Size":
            return self._size(node)
        first = self.of(node.inputs[0])
        if first is None:
            return None
        if node.op_type == "Cast":
            return first if node.attributes["to"].as_int() in INTEGERS else None
        if node.op_type in ARITHMETIC and len(node.inputs) == 2 and not node.attributes:
            second = self.of(node.inputs[1])
            return None if second is None else self._combine(node.op_type, first, second)
        if node.op_type == "Equal":
            second = self.of(node.inputs[1])
            return None if second is None else _equal(first, second)
        if node.op_type == "Where":
            return self._chosen(first, node)
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

    def sizes_of(self, value: Value | None) -> tuple[Size, ...] | None:
        """The sizes of a value: ints where known, tokens elsewhere; None without a rank."""
        if value is None:
            return None
        tensor = value.const_value if value.is_initializer() and not value.is_graph_input() else None
        if tensor is not None:
            return tuple(int(size) for size in tensor.shape)  # type: ignore[arg-type]
        if value.shape is None:
            return None
        return tuple(self._token(dim, value, axis) for axis, dim in enumerate(value.shape))

    def _token(self, dim: int | SymbolicDim, value: Value, axis: int) -> Size:
        if isinstance(dim, int):
            return dim
        if dim.value is None:
            return Token(value, axis)
        kept = self.names.kept(dim.value)
        return kept if isinstance(kept, int) else Token(kept)

    def _shape(self, node: Node) -> np.ndarray | None:
        sizes = self.sizes_of(node.inputs[0])
        if sizes is None:
            return None
        return _array(sizes[int_attribute(node, "start", 0) : int_attribute(node, "end", len(sizes))])

    def _size(self, node: Node) -> np.ndarray | None:
        sizes = self.sizes_of(node.inputs[0])
        if sizes is None:
            return None
        total: Size = 1
        for size in sizes:
            total = self._computed("Mul", total, size)
        return _array([total]).reshape(())

    def _combine(self, operator: str, first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
        try:
            pairs = np.broadcast(first, second)
            return _array([self._computed(operator, a, b) for a, b in pairs]).reshape(pairs.shape)
        except (ValueError, ZeroDivisionError):
            return None

    def _computed(self, operator: str, a: Size, b: Size) -> Size:
        if isinstance(a, int) and isinstance(b, int):
            return ARITHMETIC[operator](a, b)
        if b == NEUTRAL[operator]:
            return a
        if operator in COMMUTATIVE and a == NEUTRAL[operator]:
            return b
        operands: Hashable = frozenset((a, b)) if operator in COMMUTATIVE else (a, b)
        return self.computed.setdefault((operator, operands), Token(None, len(self.computed)))

    def _chosen(self, condition: np.ndarray, node: Node) -> np.ndarray | None:
        yes, no = (self.of(value) for value in node.inputs[1:])
        if yes is None or no is None or not _is_known(condition):
            return None
        try:
            return np.where(condition.astype(bool), yes, no)
        except ValueError:
            return None


def _is_in_range(result: np.ndarray, value: Value) -> bool:
    """Whether no known number wraps round in the type of the value."""
    bounds = np.iinfo(np.int32 if value.dtype == DataType.INT32 else np.int64)
    return all(bounds.min <= item <= bounds.max for item in result.reshape(-1) if isinstance(item, int))


def _equal(first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """Whether sizes are equal, where that can be told of all of them."""
    try:
        pairs = np.broadcast(first, second)
    except ValueError:
        return None
    answers = [_are_equal(a, b) for a, b in pairs]
    return None if None in answers else _array(answers).reshape(pairs.shape)


def _are_equal(a: Size, b: Size) -> bool | None:
    if (isinstance(a, int) and isinstance(b, int)) or a == b:
        return a == b
    is_negative = any(isinstance(size, int) and size < 0 for size in (a, b))
    is_size = any(isinstance(size, Token) and size.is_dimension for size in (a, b))
    return False if is_negative and is_size else None


def _array(items: Sequence[object]) -> np.ndarray:
    return np.array(items, dtype=object)


def _is_known(array: np.ndarray) -> bool:
    return all(isinstance(item, int) for item in array.reshape(-1))


def known_integers(array: np.ndarray) -> np.ndarray | None:
    """The array as int64 when every element is known, else None."""
    return array.astype(np.int64) if _is_known(array) else None
