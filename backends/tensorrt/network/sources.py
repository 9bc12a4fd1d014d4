"""Operators that make tensors from nothing, or from the shape of one.

What is known stays an array until a layer reads it. Random operators have no rule: an engine could not repeat what the
model draws.
"""

from __future__ import annotations

import math

import numpy as np

from graphpress.backends.tensorrt.network.call import Call, Result, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.backends.tensorrt.network.layout import diagonal_distance
from graphpress.backends.tensorrt.network.types import is_float
from graphpress.ir import constant


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "Constant": _constant,
        "ConstantOfShape": _constant_of_shape,
        "EyeLike": _eye_like,
        "Range": _range,
        "Shape": _shape,
        "Size": _size,
    }


def _constant(call: Call) -> np.ndarray:
    array = constant(call.node.outputs[0])
    if array is None or array.dtype == object:
        raise call.refuse(
            "it holds strings or is sparse, for which TensorRT has no tensors", "take it out of the graph"
        )
    return array


def _shape(call: Call) -> Result:
    dims = call.shape(0)
    positions = range(len(dims))[slice(call.integer("start", 0), _end(call))]
    if all(dims[axis] >= 0 for axis in positions):
        return np.array([dims[axis] for axis in positions], np.int64)
    whole = call.shape_tensor(call.tensor(0))
    return whole if len(positions) == len(dims) else call.out("slice", whole, [positions[0]], [len(positions)], [1])


def _end(call: Call) -> int | None:
    return call.integer("end", 0) if "end" in call.node.attributes else None


def _size(call: Call) -> Result:
    dims = call.shape(0)
    if -1 not in dims:
        return np.array(math.prod(dims), np.int64)
    return call.as_scalar(call.product(call.sizes(call.tensor(0))))


def _constant_of_shape(call: Call) -> Tensor:
    attribute = call.node.attributes.get("value")
    value = np.zeros(1, np.float32) if attribute is None else attribute.as_tensor().numpy()
    sizes: list[Size] = call.vector(0)
    return call.expand(call.constant_tensor(value.reshape([1] * len(sizes))), sizes)


def _eye_like(call: Call) -> Tensor:
    tensor = call.tensor(0)
    dtype = call.type_attribute("dtype")
    distance = diagonal_distance(call, tensor)
    on_diagonal = call.elementwise("EQUAL", distance, call.like(call.integer("k", 0), distance))
    return call.out("cast", on_diagonal, tensor.dtype if dtype is None else call.tensorrt_type(dtype))


def _range(call: Call) -> Tensor:
    """``max(0, ⌈(limit − start) / step⌉)`` elements."""
    start, limit, step = (call.reshape(call.tensor(index), [1]) for index in range(3))
    span = call.elementwise("SUB", limit, start)
    if is_float(span.dtype):
        count = call.as_index(call.unary("CEIL", call.elementwise("DIV", span, step)))
    else:
        missing = call.elementwise("FLOOR_DIV", call.unary("NEG", span), step)
        count = call.as_index(call.unary("NEG", missing))
    size = call.elementwise("MAX", count, call.like(0, count))
    return call.linspace(size, call.as_scalar(start), step)
