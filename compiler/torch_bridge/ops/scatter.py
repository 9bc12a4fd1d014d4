"""Operators that write into a copy of a tensor: ScatterElements, ScatterND and the cache update TensorScatter.

Where the same place is written twice without a reduction, the result is undefined, as in ONNX.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext
from graphpress.torch_bridge.ops.select import from_front

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "Scatter": _scatter_elements,
        "ScatterElements": _scatter_elements,
        "ScatterND": _scatter_nd,
        "TensorScatter": _tensor_scatter,
    }


def _scatter_elements(ctx: TranslationContext) -> Kernel:
    axis, reduction = ctx.node.integer("axis", 0), ctx.node.text("reduction", "none")
    return lambda data, indices, updates: put(data, axis, indices, updates, reduction)


def put(data: Tensor, axis: int, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """Write each update at its index of an axis, or combine it with what is there."""
    indices = from_front(indices, data.shape[axis])
    if reduction == "none":
        return data.scatter(axis, indices, updates)
    return data.scatter_reduce(axis, indices, updates, _REDUCTIONS[reduction])


def _scatter_nd(ctx: TranslationContext) -> Kernel:
    reduction = ctx.node.text("reduction", "none")
    return lambda data, indices, updates: put_slices(data, indices, updates, reduction)


def put_slices(data: Tensor, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """Write each slice of the updates where its row of ``indices`` points, or combine it with what is there."""
    depth = indices.shape[-1]
    rows = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=data.device)
    for size, index in zip(data.shape[:depth], indices.unbind(-1), strict=True):
        rows = rows * size + from_front(index, size)
    width = math.prod(data.shape[depth:])
    flat = data.reshape(-1, width)
    places = rows.reshape(-1, 1).expand(-1, width)
    return put(flat, 0, places, updates.reshape(-1, width), reduction).reshape(data.shape)


def _tensor_scatter(ctx: TranslationContext) -> Kernel:
    axis, circular = ctx.node.integer("axis", -2), ctx.node.text("mode", "linear") == "circular"

    def run(cache: Tensor, update: Tensor, starts: Tensor | None = None) -> Tensor:
        size, length = cache.shape[axis], update.shape[axis]
        first = torch.zeros(len(cache), dtype=torch.int64, device=cache.device) if starts is None else starts.long()
        places = first[:, None] + torch.arange(length, device=cache.device)
        places = places % size if circular else places
        shape = [1] * cache.dim()
        shape[0], shape[axis] = places.shape
        return cache.scatter(axis, places.reshape(shape).expand_as(update), update)

    return run
