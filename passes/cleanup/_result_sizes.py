"""The sizes that a node must make: as its target says, or what its operands broadcast to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from graphpress.ir import Node, Value, input_of, int_attribute
from graphpress.ops import lookup
from graphpress.passes._operands import permutation
from graphpress.passes.cleanup._partial import Partials, Size, Token

END = np.iinfo(np.int64).max
"""How exporters write the end of an axis."""


def result_sizes(node: Node, partials: Partials) -> list[Size | None] | None:
    """The sizes of the node's first result by axis, as far as its operands tell; None where that is for inference."""
    match node.op_type:
        case "Reshape":
            return _reshaped(node, partials)
        case "Expand":
            wanted = _vector(partials, input_of(node, 1))
            return None if wanted is None else _broadcast([partials.sizes_of(node.inputs[0]), wanted])
        case "Transpose":
            return _transposed(node, partials.sizes_of(node.inputs[0]))
        case "Slice":
            return _sliced(node, partials)
        case "MatMul":
            return _matmul([partials.sizes_of(value) for value in node.inputs])
        case "Range":
            return _counted([partials.of(value) for value in node.inputs])
    spec = lookup(node.op_type, node.domain)
    if spec is not None and spec.elementwise:
        return _broadcast([partials.sizes_of(value) for value in node.inputs if value is not None])
    return None


def _vector(partials: Partials, value: Value | None) -> list[Size] | None:
    sizes = partials.of(value)
    return None if sizes is None or sizes.ndim != 1 else list(sizes)


def _broadcast(operands: Sequence[Sequence[Size] | None]) -> list[Size | None] | None:
    shapes = [shape for shape in operands if shape is not None]
    if len(shapes) < len(operands):
        return None
    rank = max(len(shape) for shape in shapes)
    padded = [[*(1 for _ in range(rank - len(shape))), *shape] for shape in shapes]
    return [_met(sizes) for sizes in zip(*padded, strict=True)]


def _met(sizes: Sequence[Size]) -> Size | None:
    """What sizes broadcast to: a number but 1 decides; else they must be equal, or 1."""
    numbers = [size for size in sizes if isinstance(size, int) and size != 1]
    if numbers:
        return numbers[0]
    open_sizes = {size for size in sizes if size != 1}
    return None if len(open_sizes) > 1 else next(iter(open_sizes), 1)


def _transposed(node: Node, sizes: Sequence[Size] | None) -> list[Size | None] | None:
    order = permutation(node)
    return None if sizes is None or order is None or len(order) != len(sizes) else [sizes[axis] for axis in order]


def _sliced(node: Node, partials: Partials) -> list[Size | None] | None:
    sizes, starts, ends = partials.sizes_of(node.inputs[0]), *(_vector(partials, input_of(node, at)) for at in (1, 2))
    if sizes is None or starts is None or ends is None:
        return None
    axes, steps = (_vector(partials, input_of(node, at)) for at in (3, 4))
    made: list[Size | None] = list(sizes)
    for axis, *bounds in zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=False):
        if not isinstance(axis, int) or not -len(sizes) <= axis < len(sizes):
            return None
        made[axis] = _cut(sizes[axis], bounds)
    return made


def _cut(size: Size, bounds: Sequence[Size]) -> Size | None:
    """How many elements a slice takes along an axis."""
    if bounds[0] == 0 and bounds[2] == 1 and bounds[1] in (size, END):
        return size
    numbers = [bound for bound in bounds if isinstance(bound, int)]
    if not isinstance(size, int) or len(numbers) < len(bounds) or numbers[2] == 0:
        return None
    return len(range(size)[slice(*numbers)])


def _matmul(operands: Sequence[Sequence[Size] | None]) -> list[Size | None] | None:
    a, b = operands
    if a is None or b is None or min(len(a), len(b)) < 2:
        return None
    batch = _broadcast([a[:-2], b[:-2]]) if max(len(a), len(b)) > 2 else []
    return None if batch is None else [*batch, a[-2], b[-1]]


def _counted(limits: Sequence[object]) -> list[Size | None] | None:
    """How many numbers there are from 0 to below a size."""
    start, limit, step = (next(iter(_items(array)), None) for array in limits)
    return [limit] if start == 0 and step == 1 and isinstance(limit, Token) and limit.is_dimension else None


def _items(array: object) -> Iterator[Size]:
    return iter(()) if array is None else iter(array.reshape(-1))  # type: ignore[attr-defined]


def _reshaped(node: Node, partials: Partials) -> list[Size | None] | None:
    wanted, sizes = _vector(partials, input_of(node, 1)), partials.sizes_of(node.inputs[0])
    if wanted is None or sizes is None:
        return None
    copies = int_attribute(node, "allowzero", 0) == 0
    made: list[Size | None] = [
        size if size != 0 or not copies else sizes[axis] if axis < len(sizes) else None
        for axis, size in enumerate(wanted)
    ]
    if -1 in made:
        at = made.index(-1)
        made[at] = _rest(sizes, made[:at] + made[at + 1 :])
    return made


def _rest(sizes: Sequence[Size], others: Sequence[Size | None]) -> Size | None:
    """What sizes leave when others are divided out, where all that is not a number cancels, or one such stays."""
    left = Counter(size for size in sizes if isinstance(size, Token))
    left.subtract(Counter(size for size in others if isinstance(size, Token)))
    whole, part = (math.prod(size for size in side if isinstance(size, int)) for side in (sizes, others))
    if None in others or any(count < 0 for count in left.values()) or part <= 0 or whole % part:
        return None
    stay, number = list(left.elements()), whole // part
    if not stay:
        return number
    return stay[0] if len(stay) == 1 and number == 1 else None
