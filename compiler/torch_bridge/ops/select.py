"""Operators that join, cut and pick: Concat, Split, Slice, the Gather family, and what is found at run time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import repeat

import torch
from torch import Tensor

from graphpress.ops.semantics.slices import sliced
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "Concat": _concat,
        "Gather": _gather,
        "GatherElements": _gather_elements,
        "GatherND": _gather_nd,
        "OneHot": _one_hot,
        "Slice": _slice,
        "Split": _split,
    }


# -- joining and cutting ----------------------------------------------------------------------------------------


def _concat(ctx: TranslationContext) -> Kernel:
    axis = ctx.node.integer("axis", 1)
    return lambda *parts: torch.cat(parts, axis)


def _split(ctx: TranslationContext) -> Kernel:
    axis, count, read = ctx.node.integer("axis", 0), len(ctx.node.outputs), ctx.reader(1, "split")

    def run(data: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        given = read(sizes)
        return torch.split(data, list(given) if given else _even(data.shape[axis], count), axis)

    return run if count > 1 else lambda data, sizes=None: data


def _even(size: int, count: int) -> list[int]:
    """Chunks of equal size, the last smaller where it does not divide."""
    chunk = -(-size // count)
    return [max(0, min(chunk, size - index * chunk)) for index in range(count)]


def _slice(ctx: TranslationContext) -> Kernel:
    names = ("starts", "ends", "axes", "steps")
    reads = [ctx.reader(index, name) for index, name in enumerate(names, 1)]

    def run(data: Tensor, *operands: Tensor | None) -> Tensor:
        given = (*operands, None, None, None, None)
        starts, ends, axes, steps = (read(operand) for read, operand in zip(reads, given, strict=False))
        assert starts is not None
        assert ends is not None
        for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps or repeat(1), strict=False):
            data = cut(data, axis, start, end, step)
        return data

    return run


def cut(data: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    """Positions from ``start`` to before ``end`` of an axis, counted from the front and clamped as ONNX defines."""
    size = data.shape[axis]
    taken = sliced(start, end, step, size)
    if step < 0:
        return data.index_select(axis, torch.tensor(range(size)[taken], dtype=torch.int64, device=data.device))
    return data[(slice(None),) * (axis % data.dim()) + (taken,)]


# -- picking ----------------------------------------------------------------------------------------------------


def from_front(indices: Tensor, size: int) -> Tensor:
    """Indices counted from the front, int64."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def _gather(ctx: TranslationContext) -> Kernel:
    axis = ctx.node.integer("axis", 0)

    def run(data: Tensor, indices: Tensor) -> Tensor:
        chosen = from_front(indices, data.shape[axis])
        place = axis % data.dim()
        picked = data.index_select(place, chosen.reshape(-1))
        return picked.reshape((*data.shape[:place], *indices.shape, *data.shape[place + 1 :]))

    return run


def _gather_elements(ctx: TranslationContext) -> Kernel:
    axis = ctx.node.integer("axis", 0)
    return lambda data, indices: data.gather(axis, from_front(indices, data.shape[axis]))


def _gather_nd(ctx: TranslationContext) -> Kernel:
    batch_dims = ctx.node.integer("batch_dims", 0)
    return lambda data, indices: pick_slices(data, indices, batch_dims)


def pick_slices(data: Tensor, indices: Tensor, batch_dims: int) -> Tensor:
    """The slice that each row of ``indices`` points at, within its own item of the leading ``batch_dims`` axes."""
    depth, batch = indices.shape[-1], math.prod(data.shape[:batch_dims])
    flat = data.reshape((batch, *data.shape[batch_dims:]))
    rows = indices.long().reshape(batch, -1, depth)
    item = torch.arange(batch, device=data.device)[:, None]
    slices = flat[(item, *rows.unbind(-1))]
    return slices.reshape((*indices.shape[:-1], *data.shape[batch_dims + depth :]))


def _one_hot(ctx: TranslationContext) -> Kernel:
    axis, read = ctx.node.integer("axis", -1), ctx.reader(1)

    def run(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        known: Sequence[int] | None = read(depth)
        assert known is not None
        return one_hot(indices, known[0], values, axis % (indices.dim() + 1))

    return run


def one_hot(indices: Tensor, depth: int, values: Tensor, axis: int) -> Tensor:
    """``values[1]`` where the position along the new axis is the index, ``values[0]`` elsewhere."""
    places = torch.arange(depth, device=indices.device).reshape((-1, *(1,) * (indices.dim() - axis)))
    return torch.where(from_front(indices, depth).unsqueeze(axis) == places, values[1], values[0])
