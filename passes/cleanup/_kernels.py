"""Numpy evaluation of the operators that shape arithmetic is made of.

A kernel returns None where numpy and ONNX could disagree (out-of-range casts, division by zero, operands that older
operator sets broadcast by attribute) or where the work is large: ONNX Runtime evaluates those. Kernels that enlarge
their input return views, so that a caller can look at ``nbytes`` before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from graphpress.ir import Node, input_of, int_attribute, ints_attribute
from graphpress.ir.values import tensor_of
from graphpress.passes.cleanup._reshape import resolve_target

Arrays = Sequence[np.ndarray | None]
Kernel = Callable[[Node, Arrays], "np.ndarray | None"]

SMALL = 1 << 16
"""Elements up to which arithmetic is worth doing here; larger tensors go to the runtime's kernels."""


def evaluate(node: Node, inputs: Arrays) -> np.ndarray | None:
    """The single result of ``node`` on these inputs (in order, None where absent), or None to leave it to others."""
    kernel = KERNELS.get(node.op_type)
    if kernel is None or len(node.outputs) != 1 or not inputs or inputs[0] is None:
        return None
    try:
        with np.errstate(all="ignore"):
            result = kernel(node, inputs)
    except (IndexError, ValueError, TypeError, OverflowError):
        return None  # malformed operands: the runtime says what is wrong with them
    return None if result is None else np.asarray(result)


def _cast(node: Node, inputs: Arrays) -> np.ndarray | None:
    source = _present(inputs[0])
    target = _NUMPY_TYPES.get(int_attribute(node, "to", 0))
    if target is None or source.dtype.kind not in "biuf":
        return None
    if source.dtype.kind == "f" and target.kind in "iu":
        bounds = np.iinfo(target)
        if not np.all((source >= bounds.min) & (source < float(bounds.max))):
            return None
    return source.astype(target)


def _shape(node: Node, inputs: Arrays) -> np.ndarray:
    shape = _present(inputs[0]).shape
    end = int_attribute(node, "end", len(shape))
    return np.array(shape[int_attribute(node, "start", 0) : end], np.int64)


def _size(node: Node, inputs: Arrays) -> np.ndarray:
    return np.array(_present(inputs[0]).size, np.int64)


def _gather(node: Node, inputs: Arrays) -> np.ndarray | None:
    data, indices = _present(inputs[0]), _present(inputs[1])
    axis = int_attribute(node, "axis", 0)
    if data.size > SMALL or indices.size * data.size // max(data.shape[axis], 1) > SMALL:
        return None
    return np.take(data, indices, axis=axis)


def _concat(node: Node, inputs: Arrays) -> np.ndarray | None:
    axis = int_attribute(node, "axis", 1)
    operands = [_present(array) for array in inputs]
    total = sum(array.size for array in operands)
    if total > SMALL and total > sum(array.size for array in {id(array): array for array in operands}.values()):
        return None
    return np.concatenate(operands, axis=axis)


def _slice(node: Node, inputs: Arrays) -> np.ndarray:
    data = _present(inputs[0])
    starts, ends = _ints(node, "starts", inputs, 1), _ints(node, "ends", inputs, 2)
    axes = _ints(node, "axes", inputs, 3) or tuple(range(len(starts or ())))
    steps = _ints(node, "steps", inputs, 4) or (1,) * len(axes)
    if starts is None or ends is None:
        raise ValueError("a slice without bounds")
    window = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0 and start < -data.shape[axis]:
            raise ValueError("numpy starts ahead of the first element, ONNX at it")
        window[axis] = slice(start, None if step < 0 and end < -data.shape[axis] else end, step)
    return data[tuple(window)]


def _squeeze(node: Node, inputs: Arrays) -> np.ndarray:
    return np.squeeze(_present(inputs[0]), _ints(node, "axes", inputs, 1))


def _unsqueeze(node: Node, inputs: Arrays) -> np.ndarray | None:
    axes = _ints(node, "axes", inputs, 1)
    return None if axes is None else np.expand_dims(_present(inputs[0]), axes)


def _reshape(node: Node, inputs: Arrays) -> np.ndarray | None:
    target = _ints(node, "shape", inputs, 1)
    data = _present(inputs[0])
    if target is None:
        return None
    return data.reshape(resolve_target(data.shape, target, int_attribute(node, "allowzero", 0) == 1))


def _flatten(node: Node, inputs: Arrays) -> np.ndarray:
    data = _present(inputs[0])
    axis = int_attribute(node, "axis", 1)
    axis = axis + data.ndim if axis < 0 else axis
    return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))


def _transpose(node: Node, inputs: Arrays) -> np.ndarray:
    return np.transpose(_present(inputs[0]), ints_attribute(node, "perm"))


def _expand(node: Node, inputs: Arrays) -> np.ndarray:
    data = _present(inputs[0])
    target = tuple(int(size) for size in _present(inputs[1]))
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, target))


def _constant_of_shape(node: Node, inputs: Arrays) -> np.ndarray:
    attribute = node.attributes.get("value")
    fill = np.zeros(1, np.float32) if attribute is None else tensor_of(attribute).numpy()
    return np.broadcast_to(fill.reshape(()), tuple(int(size) for size in _present(inputs[0])))


def _range(node: Node, inputs: Arrays) -> np.ndarray | None:
    start, limit, delta = (_present(array).reshape(()) for array in inputs)
    if start.dtype.kind not in "iu" or delta == 0 or (int(limit) - int(start)) // int(delta) > SMALL:
        return None
    return np.arange(int(start), int(limit), int(delta), dtype=start.dtype)


def _where(node: Node, inputs: Arrays) -> np.ndarray | None:
    condition, chosen, other = (_present(array) for array in inputs)
    return _small(np.where, condition, chosen, other)


def _divide(dividend: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    if dividend.dtype.kind == "f":
        return np.asarray(np.divide(dividend, divisor))
    if np.any(divisor == 0):
        raise ValueError("a division by zero")
    quotient = np.abs(dividend) // np.abs(divisor)
    return np.asarray(np.where((dividend < 0) != (divisor < 0), -quotient, quotient)).astype(dividend.dtype)


def _elementwise(function: Callable[..., np.ndarray], kinds: str = "iuf") -> Kernel:
    def kernel(node: Node, inputs: Arrays) -> np.ndarray | None:
        operands = [_present(array) for array in inputs]
        if "axis" in node.attributes or "broadcast" in node.attributes:
            return None
        if any(array.dtype.kind not in kinds for array in operands):
            return None
        return _small(function, *operands)

    return kernel


def _small(function: Callable[..., np.ndarray], *operands: np.ndarray) -> np.ndarray | None:
    shape = np.broadcast_shapes(*(array.shape for array in operands))
    return function(*operands) if math.prod(shape) <= SMALL else None


def _present(array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise ValueError("an operand is absent")
    return array


def _ints(node: Node, name: str, inputs: Arrays, index: int) -> tuple[int, ...] | None:
    """An operand that older operator sets express as an attribute."""
    if input_of(node, index) is None:
        return ints_attribute(node, name)
    return tuple(int(item) for item in _present(inputs[index]).reshape(-1))


_NUMPY_TYPES: dict[int, np.dtype] = {
    1: np.dtype(np.float32), 2: np.dtype(np.uint8), 3: np.dtype(np.int8), 4: np.dtype(np.uint16),
    5: np.dtype(np.int16), 6: np.dtype(np.int32), 7: np.dtype(np.int64), 9: np.dtype(np.bool_),
    10: np.dtype(np.float16), 11: np.dtype(np.float64), 12: np.dtype(np.uint32), 13: np.dtype(np.uint64),
}  # fmt: skip

KERNELS: dict[str, Kernel] = {
    "Abs": _elementwise(np.abs, "if"),
    "Add": _elementwise(np.add),
    "And": _elementwise(np.logical_and, "b"),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _elementwise(_divide),
    "Equal": _elementwise(np.equal, "biuf"),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Identity": lambda node, inputs: inputs[0],
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative, "if"),
    "Not": _elementwise(np.logical_not, "b"),
    "Or": _elementwise(np.logical_or, "b"),
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
