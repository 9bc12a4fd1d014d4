"""What the patterns share: operands in either order, and constant numbers among them."""

from __future__ import annotations

from collections.abc import Iterator

from graphpress.ir import (
    DataType,
    Node,
    Value,
    constant,
    dims_of,
    has_one_use,
    input_of,
    is_constant,
    is_standard,
    rank_of,
    readers,
    scalar,
)

HALF_TYPES = (DataType.FLOAT16, DataType.BFLOAT16)


def orders(node: Node) -> Iterator[tuple[Value, Value]]:
    """The two operands of a commutative operator, in both orders; nothing where one is absent."""
    if len(node.inputs) == 2 and node.inputs[0] is not None and node.inputs[1] is not None:
        yield node.inputs[0], node.inputs[1]
        yield node.inputs[1], node.inputs[0]


def number(value: Value | None, beside: Value | None) -> float | None:
    """The constant number that ``value`` holds, None when it is none or would give ``beside`` more axes."""
    array = constant(value)
    if array is None or array.size != 1 or (array.ndim > 0 and (rank_of(beside) or 0) < array.ndim):
        return None
    return scalar(value) if array.dtype.name != "bfloat16" else float(array.reshape(-1)[0])


def with_number(node: Node) -> tuple[Value, float] | None:
    """The variable and the constant number that a commutative operator joins."""
    for value, other in orders(node):
        held = None if is_constant(value) else number(other, value)
        if held is not None:
            return value, held
    return None


def is_close(actual: float, expected: float, value: Value) -> bool:
    """Whether a constant of the model is the expected one, up to the precision of the type of ``value``."""
    tolerance = 4e-3 if value.dtype in HALF_TYPES else 2e-5
    return abs(actual - expected) <= tolerance * max(abs(expected), 1e-3)


def bound(node: Node, index: int, name: str, default: float) -> float | None:
    """A limit of a Clip: its input or, in older operator sets, its attribute; None when it is not constant."""
    given = input_of(node, index)
    if given is not None:
        return number(given, given)
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def only_reader_of_type(node: Node, op_type: str) -> Node | None:
    """The node of that type which alone reads the one result of ``node``, in the same graph."""
    value = node.outputs[0]
    if not has_one_use(value):
        return None
    (reader,) = readers(value)
    return reader if is_standard(reader, op_type) and reader.graph is node.graph else None


def size(value: Value | None, axis: int) -> int | str | None:
    """The size along an axis: a number, the name of a symbol, or None when unknown."""
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        dims = dims_of(value)
        return None if dims is None or not -len(dims) <= axis < len(dims) else dims[axis]
    dim = value.shape[axis]
    return dim if isinstance(dim, int) else dim.value


def same_size(first: tuple[Value | None, int], second: tuple[Value | None, int]) -> bool:
    """Whether two axes, each given as (value, axis), provably have the same size."""
    known = size(*first)
    return known is not None and known == size(*second)
