"""Operators that join, part and pick: concatenate, split, slice, gather, scatter, one-hot, non-zero, suppression.

Positions count from the front in TensorRT. Known ones are rewritten so; those that come at run time get the size added
where they are negative, as ONNX reads them. Slices of open sizes clamp their ends by arithmetic on shapes:

    start, end < 0 count from the end;  0 ≤ start, end ≤ size;  ⌈(end − start) / step⌉ elements.

Refused: scatters that combine, steps that are known at run time only.
"""

from __future__ import annotations

import numpy as np

from graphpress.backends.tensorrt.network.call import Call, Result, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.backends.tensorrt.network.types import is_float


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "Compress": _compress,
        "Concat": _concat,
        "Gather": _gather,
        "GatherElements": _gather_elements,
        "GatherND": _gather_nd,
        "NonMaxSuppression": _non_max_suppression,
        "NonZero": _non_zero,
        "OneHot": _one_hot,
        "Scatter": _scatter_elements,
        "ScatterElements": _scatter_elements,
        "ScatterND": _scatter_nd,
        "Slice": _slice,
        "Split": _split,
        "TensorScatter": _tensor_scatter,
    }


# -- join and part --------------------------------------------------------------------------------------------


def _concat(call: Call) -> Tensor:
    tensors = call.tensors()
    axis = call.axis(1, len(tensors[0].shape))
    return call.concatenate(tensors, axis) if len(tensors) > 1 else call.out("identity", tensors[0])


def _split(call: Call) -> list[Result]:
    tensor = call.tensor(0)
    axis = call.axis(0, len(tensor.shape))
    whole = call.sizes(tensor)
    start: Size = 0
    found: list[Result] = []
    for size in _parts(call, whole[axis]):
        starts: list[Size] = [0] * len(whole)
        sizes = list(whole)
        starts[axis], sizes[axis] = start, size
        found.append(call.slice(tensor, starts, sizes, [1] * len(whole)).get_output(0))
        start = call.calculate("SUM", start, size)
    return found


def _parts(call: Call, whole: Size) -> list[Size]:
    """The sizes asked for; else equal ones, of which the last may be smaller."""
    attribute = call.integers("split")
    if attribute is not None:
        return list(attribute)
    if call.has(1):
        return call.vector(1)
    count = call.integer("num_outputs", len(call.node.outputs))
    chunk = call.calculate("FLOOR_DIV", call.calculate("SUM", whole, count - 1), count)
    last = call.calculate("SUB", whole, call.calculate("PROD", chunk, count - 1))
    return [*[chunk] * (count - 1), last]


# -- slices ---------------------------------------------------------------------------------------------------


def _slice(call: Call) -> Tensor:
    tensor = call.tensor(0)
    rank = len(tensor.shape)
    starts, ends = _bounds(call, "starts", 1), _bounds(call, "ends", 2)
    axes = call.integers("axes", 3, "the axes") or tuple(range(len(starts)))
    steps = call.integers("steps", 4, "the steps") or (1,) * len(starts)
    first: list[Size] = [0] * rank
    sizes = call.sizes(tensor)
    stride = [1] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index = call.from_front(axis, rank)
        first[index], sizes[index] = _extent(call, start, end, step, sizes[index])
        stride[index] = step
    return call.slice(tensor, first, sizes, stride).get_output(0)


def _bounds(call: Call, name: str, index: int) -> list[Size]:
    attribute = call.integers(name)
    return call.vector(index) if attribute is None else list(attribute)


def _extent(call: Call, start: Size, end: Size, step: int, size: Size) -> tuple[Size, Size]:
    """First position and number of elements of one axis."""
    last = call.calculate("SUB", size, 1)
    if step > 0:
        first = _clamp(call, _from_front(call, start, size), 0, size)
        span = call.calculate("SUB", _clamp(call, _from_front(call, end, size), 0, size), first)
    else:
        first = _clamp(call, _from_front(call, start, size), 0, last)
        span = call.calculate("SUB", first, _clamp(call, _from_front(call, end, size), -1, last))
    count = call.calculate("FLOOR_DIV", call.calculate("SUM", span, abs(step) - 1), abs(step))
    return first, call.calculate("MAX", count, 0)


def _from_front(call: Call, position: Size, size: Size) -> Size:
    if isinstance(position, int):
        return position if position >= 0 else call.calculate("SUM", size, max(position, -(1 << 31)))
    negative = call.calculate("MAX", call.calculate("MIN", call.calculate("SUB", 0, position), 1), 0)
    return call.calculate("SUM", position, call.calculate("PROD", size, negative))


def _clamp(call: Call, position: Size, low: int, high: Size) -> Size:
    """Between two bounds; the largest integers stand for the end of the axis."""
    if isinstance(position, int) and position >= np.iinfo(np.int32).max:
        return high
    if isinstance(position, int) and position == 0 == low:
        return 0
    return call.calculate("MAX", call.calculate("MIN", position, high), low)


# -- pick -----------------------------------------------------------------------------------------------------


def _gather(call: Call) -> Tensor:
    tensor = call.tensor(0)
    axis = call.axis(0, len(tensor.shape))
    return call.gather(tensor, _positions(call, 1, call.sizes(tensor)[axis]), axis)


def _positions(call: Call, index: int, size: Size) -> Tensor:
    """The positions of an input, none of them negative."""
    array = call.constant(index)
    if array is None:
        found = call.tensor(index)
        return found if _is_never_negative(call, index) else _raised(call, found, size)
    if not (array < 0).any():
        return call.tensor(index)
    if isinstance(size, int):
        return call.constant_tensor(np.where(array < 0, array + size, array))
    return _raised(call, call.tensor(index), size)


def _raised(call: Call, positions: Tensor, size: Size) -> Tensor:
    """``size`` more where negative."""
    negative = call.elementwise("LESS", positions, call.like(0, positions))
    return call.select(negative, call.elementwise("SUM", positions, call.as_operand(size, positions)), positions)


def _is_never_negative(call: Call, index: int) -> bool:
    """Whether the positions come from an operator that gives none below zero."""
    value = call.node.inputs[index]
    node = None if value is None else value.producer()
    return node is not None and node.op_type in ("ArgMax", "ArgMin", "NonZero", "TopK", "Shape", "Size")


def _gather_elements(call: Call) -> Tensor:
    tensor = call.tensor(0)
    axis = call.axis(0, len(tensor.shape))
    layer = call.add("gather_v2", tensor, _positions(call, 1, call.sizes(tensor)[axis]), call.trt.GatherMode.ELEMENT)
    layer.axis = axis
    return layer.get_output(0)


def _gather_nd(call: Call) -> Tensor:
    layer = call.add("gather_v2", call.tensor(0), _tuples(call, call.integer("batch_dims", 0)), call.trt.GatherMode.ND)
    layer.num_elementwise_dims = call.integer("batch_dims", 0)
    return layer.get_output(0)


def _tuples(call: Call, batch: int) -> Tensor:
    """Positions in several axes at once, along the last axis; none of them negative."""
    tensor, array, positions = call.tensor(0), call.constant(1), call.tensor(1)
    if array is not None and not (array < 0).any():
        return positions
    width = positions.shape[-1]
    if width < 0:
        raise call.refuse("the last dimension of its indices is open: it says how many axes they pick from", "fix it")
    whole = call.cast(call.stack(call.sizes(tensor)[batch : batch + width]), positions.dtype)
    negative = call.elementwise("LESS", positions, call.like(0, positions))
    return call.select(negative, call.elementwise("SUM", positions, whole), positions)


def _compress(call: Call) -> Tensor:
    """Gathers where the condition holds; without an axis, from the flat tensor."""
    tensor, axis = call.tensor(0), 0
    if "axis" in call.node.attributes:
        axis = call.axis(0, len(tensor.shape))
    else:
        tensor = call.reshape(tensor, [-1])
    condition = call.constant(1)
    if condition is not None:
        return call.gather(tensor, call.indices([int(one) for one in np.flatnonzero(condition)]), axis)
    found = call.out("non_zero", call.tensor(1))
    return call.gather(tensor, call.reshape(found, [-1]), axis)


def _non_zero(call: Call) -> Tensor:
    tensor = call.tensor(0)
    if not len(tensor.shape):
        raise call.refuse("TensorRT finds no positions in a scalar", "give it an axis")
    return call.as_index(call.out("non_zero", tensor))


def _one_hot(call: Call) -> Tensor:
    """Indices count from the end where they are negative; those outside give no hot position, here as in ONNX."""
    known = call.constant(1)
    depth = (
        call.as_scalar(_whole(call, 1)) if known is None else call.scalar(int(known.reshape(-1)[0]), call.index_type)
    )
    indices = _whole(call, 0)
    below = call.elementwise("LESS", indices, call.like(0, indices))
    indices = call.select(below, call.elementwise("SUM", indices, call.cast(depth, indices.dtype)), indices)
    axis = call.axis(-1, call.rank(0) + 1)
    return call.out("one_hot", indices, call.tensor(2), depth, axis)


def _whole(call: Call, index: int) -> Tensor:
    """Numbers that may come as floats, as integers."""
    tensor = call.tensor(index)
    return call.as_index(tensor) if is_float(tensor.dtype) else tensor


# -- scatter --------------------------------------------------------------------------------------------------


def _plain_scatter(call: Call) -> None:
    if (reduction := call.text("reduction", "none")) != "none":
        raise call.refuse(f"TensorRT's scatter overwrites; it does not combine ({reduction})")


def _scatter_elements(call: Call) -> Tensor:
    _plain_scatter(call)
    tensor = call.tensor(0)
    axis = call.axis(0, len(tensor.shape))
    positions = _positions(call, 1, call.sizes(tensor)[axis])
    layer = call.add("scatter", tensor, positions, call.tensor(2), call.trt.ScatterMode.ELEMENT)
    layer.axis = axis
    return layer.get_output(0)


def _scatter_nd(call: Call) -> Tensor:
    _plain_scatter(call)
    return call.out("scatter", call.tensor(0), _tuples(call, 0), call.tensor(2), call.trt.ScatterMode.ND)


def _tensor_scatter(call: Call) -> Tensor:
    """Writes consecutive positions of one axis, from a start that each sample has of its own."""
    cache, update = call.tensor(0), call.tensor(1)
    rank = len(cache.shape)
    axis = call.axis(-2, rank)
    sizes = call.sizes(update)
    run = call.unsqueeze(call.iota(sizes[axis], call.index_type), [one for one in range(rank) if one != axis])
    if call.has(2):
        starts = call.unsqueeze(call.as_index(call.tensor(2)), range(1, rank))
        run = call.elementwise("SUM", starts, run)
    if call.text("mode", "linear") == "circular":
        length = call.as_operand(call.sizes(cache)[axis], run)
        turns = call.elementwise("FLOOR_DIV", run, length)
        run = call.elementwise("SUB", run, call.elementwise("PROD", turns, length))
    layer = call.add("scatter", cache, call.expand(run, sizes), update, call.trt.ScatterMode.ELEMENT)
    layer.axis = axis
    return layer.get_output(0)


# -- suppression ----------------------------------------------------------------------------------------------


def _non_max_suppression(call: Call) -> Tensor:
    """TensorRT takes scores by box, ONNX by class; the rest is the same."""
    trt = call.trt
    boxes, scores = call.tensor(0), call.transpose(call.tensor(1), (0, 2, 1))
    layer = call.add("nms", boxes, scores, _threshold(call, 2, 0, trt.DataType.INT32))
    formats = trt.BoundingBoxFormat
    layer.bounding_box_format = formats.CENTER_SIZES if call.integer("center_point_box", 0) else formats.CORNER_PAIRS
    layer.set_input(3, _threshold(call, 3, 0.0, trt.DataType.FLOAT))
    layer.set_input(4, _threshold(call, 4, float(np.finfo(np.float32).min), trt.DataType.FLOAT))
    return call.as_index(layer.get_output(0))


def _threshold(call: Call, index: int, default: float, dtype: object) -> Tensor:
    """A scalar of the layer's type; absent, no overlap is suffered and no score is too small."""
    if call.has(index) and call.constant(index) is None:
        return call.as_scalar(call.cast(call.tensor(index), dtype))
    return call.scalar(call.number_of(index, "a threshold", default), dtype)
