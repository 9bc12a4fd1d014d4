"""Operators that join, part and pick: concatenate, split, slice, gather, one-hot.

Positions count from the front in TensorRT. Known ones are rewritten so; those that come at run time get the size added
where they are negative, as ONNX reads them. Slices of open sizes clamp their ends by arithmetic on shapes:

    start, end < 0 count from the end;  0 ≤ start, end ≤ size;  ⌈(end − start) / step⌉ elements.

Refused: steps that are known at run time only.
"""

from __future__ import annotations

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Result, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.backends.tensorrt.network.types import is_float
from graphpress.ir import normalize_axis


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "Concat": _concat,
        "Gather": _gather,
        "GatherElements": _gather_elements,
        "GatherND": _gather_nd,
        "OneHot": _one_hot,
        "Slice": _slice,
        "Split": _split,
    }


# -- join and part --------------------------------------------------------------------------------------------


def _concat(ctx: LoweringContext) -> Tensor:
    tensors = ctx.tensors()
    axis = ctx.node.axis(1, len(tensors[0].shape))
    return ctx.concatenate(tensors, axis) if len(tensors) > 1 else ctx.out("identity", tensors[0])


def _split(ctx: LoweringContext) -> list[Result]:
    tensor = ctx.tensor(0)
    axis = ctx.node.axis(0, len(tensor.shape))
    whole = ctx.sizes(tensor)
    start: Size = 0
    parts: list[Result] = []
    for size in _parts(ctx, whole[axis]):
        starts: list[Size] = [0] * len(whole)
        sizes = list(whole)
        starts[axis], sizes[axis] = start, size
        parts.append(ctx.slice(tensor, starts, sizes, [1] * len(whole)).get_output(0))
        start = ctx.calculate("SUM", start, size)
    return parts


def _parts(ctx: LoweringContext, whole: Size) -> list[Size]:
    """The requested sizes; else equal ones, of which the last may be smaller."""
    attribute = ctx.node.integers("split")
    if attribute is not None:
        return list(attribute)
    if ctx.node.has(1):
        return ctx.vector(1)
    count = ctx.node.integer("num_outputs", len(ctx.node.outputs))
    chunk = ctx.calculate("FLOOR_DIV", ctx.calculate("SUM", whole, count - 1), count)
    last = ctx.calculate("SUB", whole, ctx.calculate("PROD", chunk, count - 1))
    return [*[chunk] * (count - 1), last]


# -- slices ---------------------------------------------------------------------------------------------------


def _slice(ctx: LoweringContext) -> Tensor:
    tensor = ctx.tensor(0)
    rank = len(tensor.shape)
    starts, ends = _bounds(ctx, "starts", 1), _bounds(ctx, "ends", 2)
    axes = ctx.known_integers("axes", 3, "the axes") or tuple(range(len(starts)))
    steps = ctx.known_integers("steps", 4, "the steps") or (1,) * len(starts)
    first: list[Size] = [0] * rank
    sizes = ctx.sizes(tensor)
    stride = [1] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index = normalize_axis(axis, rank)
        first[index], sizes[index] = _extent(ctx, start, end, step, sizes[index])
        stride[index] = step
    return ctx.slice(tensor, first, sizes, stride).get_output(0)


def _bounds(ctx: LoweringContext, name: str, index: int) -> list[Size]:
    attribute = ctx.node.integers(name)
    return ctx.vector(index) if attribute is None else list(attribute)


def _extent(ctx: LoweringContext, start: Size, end: Size, step: int, size: Size) -> tuple[Size, Size]:
    """First position and number of elements of one axis."""
    last = ctx.calculate("SUB", size, 1)
    if step > 0:
        first = _clamp(ctx, _from_front(ctx, start, size), 0, size)
        span = ctx.calculate("SUB", _clamp(ctx, _from_front(ctx, end, size), 0, size), first)
    else:
        first = _clamp(ctx, _from_front(ctx, start, size), 0, last)
        span = ctx.calculate("SUB", first, _clamp(ctx, _from_front(ctx, end, size), -1, last))
    count = ctx.calculate("FLOOR_DIV", ctx.calculate("SUM", span, abs(step) - 1), abs(step))
    return first, ctx.calculate("MAX", count, 0)


def _from_front(ctx: LoweringContext, position: Size, size: Size) -> Size:
    if isinstance(position, int):
        return position if position >= 0 else ctx.calculate("SUM", size, max(position, -(1 << 31)))
    negative = ctx.calculate("MAX", ctx.calculate("MIN", ctx.calculate("SUB", 0, position), 1), 0)
    return ctx.calculate("SUM", position, ctx.calculate("PROD", size, negative))


def _clamp(ctx: LoweringContext, position: Size, low: int, high: Size) -> Size:
    """Between two bounds; the largest integers stand for the end of the axis."""
    if isinstance(position, int) and position >= np.iinfo(np.int32).max:
        return high
    if isinstance(position, int) and position == 0 == low:
        return 0
    return ctx.calculate("MAX", ctx.calculate("MIN", position, high), low)


# -- pick -----------------------------------------------------------------------------------------------------


def _gather(ctx: LoweringContext) -> Tensor:
    tensor = ctx.tensor(0)
    axis = ctx.node.axis(0, len(tensor.shape))
    return ctx.gather(tensor, positions(ctx, 1, ctx.sizes(tensor)[axis]), axis)


def positions(ctx: LoweringContext, index: int, size: Size) -> Tensor:
    """The positions of an input, none of them negative."""
    array = ctx.node.constant(index)
    if array is None:
        tensor = ctx.tensor(index)
        return tensor if _is_never_negative(ctx, index) else _raised(ctx, tensor, size)
    if not (array < 0).any():
        return ctx.tensor(index)
    if isinstance(size, int):
        return ctx.constant_tensor(np.where(array < 0, array + size, array))
    return _raised(ctx, ctx.tensor(index), size)


def _raised(ctx: LoweringContext, positions: Tensor, size: Size) -> Tensor:
    """``size`` more where negative."""
    negative = ctx.elementwise("LESS", positions, ctx.like(0, positions))
    return ctx.select(negative, ctx.elementwise("SUM", positions, ctx.as_operand(size, positions)), positions)


def _is_never_negative(ctx: LoweringContext, index: int) -> bool:
    """Whether the positions come from an operator that gives none below zero."""
    value = ctx.node.inputs[index]
    node = None if value is None else value.producer()
    return node is not None and node.op_type in ("ArgMax", "ArgMin", "NonZero", "TopK", "Shape", "Size")


def _gather_elements(ctx: LoweringContext) -> Tensor:
    tensor = ctx.tensor(0)
    axis = ctx.node.axis(0, len(tensor.shape))
    layer = ctx.add("gather_v2", tensor, positions(ctx, 1, ctx.sizes(tensor)[axis]), ctx.trt.GatherMode.ELEMENT)
    layer.axis = axis
    return layer.get_output(0)


def _gather_nd(ctx: LoweringContext) -> Tensor:
    layer = ctx.add(
        "gather_v2", ctx.tensor(0), index_tuples(ctx, ctx.node.integer("batch_dims", 0)), ctx.trt.GatherMode.ND
    )
    layer.num_elementwise_dims = ctx.node.integer("batch_dims", 0)
    return layer.get_output(0)


def index_tuples(ctx: LoweringContext, batch: int) -> Tensor:
    """Positions in several axes at once, along the last axis; none of them negative."""
    tensor, array, positions = ctx.tensor(0), ctx.node.constant(1), ctx.tensor(1)
    if array is not None and not (array < 0).any():
        return positions
    width = positions.shape[-1]
    if width < 0:
        raise ctx.refuse("the last dimension of its indices is open: it says how many axes they pick from", "fix it")
    whole = ctx.cast(ctx.stack(ctx.sizes(tensor)[batch : batch + width]), positions.dtype)
    negative = ctx.elementwise("LESS", positions, ctx.like(0, positions))
    return ctx.select(negative, ctx.elementwise("SUM", positions, whole), positions)


def _one_hot(ctx: LoweringContext) -> Tensor:
    """Indices count from the end where they are negative; those outside give no hot position, here as in ONNX."""
    known = ctx.node.constant(1)
    depth = ctx.as_scalar(_whole(ctx, 1)) if known is None else ctx.scalar(int(known.reshape(-1)[0]), ctx.index_type)
    indices = _whole(ctx, 0)
    below = ctx.elementwise("LESS", indices, ctx.like(0, indices))
    indices = ctx.select(below, ctx.elementwise("SUM", indices, ctx.cast(depth, indices.dtype)), indices)
    axis = ctx.node.axis(-1, ctx.rank(0) + 1)
    return ctx.out("one_hot", indices, ctx.tensor(2), depth, axis)


def _whole(ctx: LoweringContext, index: int) -> Tensor:
    """Numbers that may come as floats, as integers."""
    tensor = ctx.tensor(index)
    return ctx.as_index(tensor) if is_float(tensor.dtype) else tensor
