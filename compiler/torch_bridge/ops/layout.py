"""Operators that move values within one tensor: reshape, transpose, pad, tile, expand, depth and space."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from graphpress.ops.semantics.slices import padded
from graphpress.ops.semantics.window import Pads
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext
from graphpress.torch_bridge.ops.windows import pad


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "CenterCropPad": _center_crop_pad,
        "DepthToSpace": _depth_to_space,
        "Expand": _expand,
        "Flatten": _flatten,
        "Pad": _pad,
        "Reshape": _reshape,
        "ReverseSequence": _reverse_sequence,
        "SpaceToDepth": _space_to_depth,
        "Squeeze": _squeeze,
        "Tile": _tile,
        "Transpose": _transpose,
        "Trilu": _trilu,
        "Unsqueeze": _unsqueeze,
    }


# -- views ----------------------------------------------------------------------------------------------------


def _reshape(ctx: TranslationContext) -> Kernel:
    read, zero_is_zero = ctx.reader(1, "shape"), ctx.node.flag("allowzero")

    def kernel(x: Tensor, shape: Tensor | None = None) -> Tensor:
        sizes = read(shape) or ()
        if not zero_is_zero and 0 in sizes:
            sizes = tuple(size or x.shape[index] for index, size in enumerate(sizes))
        return x.reshape(_inferred(sizes, x.numel()))

    return kernel


def _inferred(sizes: Sequence[int], count: int) -> tuple[int, ...]:
    """The size that is left open, worked out even where others are zero."""
    if -1 not in sizes or count:
        return tuple(sizes)
    return tuple(0 if size == -1 else size for size in sizes)


def _flatten(ctx: TranslationContext) -> Kernel:
    axis = ctx.node.integer("axis", 1)

    def kernel(x: Tensor) -> Tensor:
        cut = axis if axis >= 0 else axis + x.dim()
        return x.reshape(math.prod(x.shape[:cut]), math.prod(x.shape[cut:]))

    return kernel


def _squeeze(ctx: TranslationContext) -> Kernel:
    read = ctx.reader(1, "axes")

    def kernel(x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = read(axes)
        return x.squeeze() if chosen is None else x.squeeze(chosen)

    return kernel


def _unsqueeze(ctx: TranslationContext) -> Kernel:
    read = ctx.reader(1, "axes")

    def kernel(x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = read(axes) or ()
        rank = x.dim() + len(chosen)
        for axis in sorted(axis % rank for axis in chosen):
            x = x.unsqueeze(axis)
        return x

    return kernel


def _transpose(ctx: TranslationContext) -> Kernel:
    order = ctx.node.integers("perm")
    if order is not None:
        return lambda x: x.permute(order)
    return lambda x: x.permute(tuple(reversed(range(x.dim()))))


def _expand(ctx: TranslationContext) -> Kernel:
    """Broadcasting goes both ways: a target of one keeps the operand's size."""
    read = ctx.reader(1)

    def kernel(x: Tensor, shape: Tensor) -> Tensor:
        return x.expand(np.broadcast_shapes(x.shape, read(shape) or ()))

    return kernel


# -- padding and cropping -------------------------------------------------------------------------------------


def _pad(ctx: TranslationContext) -> Kernel:
    mode = ctx.node.text("mode", "constant")
    ctx.require(mode in ("constant", "edge", "reflect", "wrap"), f"mode {mode!r}")
    read, read_axes, given = ctx.reader(1, "pads"), ctx.reader(3), ctx.node.number("value", 0.0)
    known = ctx.node.constant(2)
    constant = given if known is None else known.reshape(-1)[0].item()

    def kernel(
        x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
    ) -> Tensor:
        pairs = _pairs(read(pads) or (), read_axes(axes), x.dim())
        if mode == "constant":
            return pad(x, pairs, constant) if known is not None or value is None else _filled(x, pairs, value)
        return _extended(x, pairs, mode)

    return kernel


def _filled(x: Tensor, pairs: Pads, value: Tensor) -> Tensor:
    inside = pad(torch.ones_like(x, dtype=torch.int8), pairs)
    return torch.where(inside > 0, pad(x, pairs), value.reshape(()))


def _pairs(pads: Sequence[int], axes: Sequence[int] | None, rank: int) -> Pads:
    """Padding before and after, for every axis."""
    given = padded(pads, axes, rank)
    return tuple(given.get(axis, (0, 0)) for axis in range(rank))


def _extended(x: Tensor, pairs: Pads, mode: str) -> Tensor:
    """Padding with the tensor's own values, axis by axis; negative padding crops."""
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            x = x.index_select(axis, _sources(x.shape[axis], before, after, mode).to(x.device))
    return x


def _sources(size: int, before: int, after: int, mode: str) -> Tensor:
    """From where each position of a padded axis takes its value."""
    places = torch.arange(-before, size + after)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    period = max(2 * (size - 1), 1)
    places = places % period
    return torch.where(places >= size, period - places, places)


def _center_crop_pad(ctx: TranslationContext) -> Kernel:
    read, axes = ctx.reader(1), ctx.node.integers("axes")

    def kernel(x: Tensor, shape: Tensor) -> Tensor:
        pairs = [(0, 0)] * x.dim()
        chosen = range(x.dim()) if axes is None else [axis % x.dim() for axis in axes]
        for axis, size in zip(chosen, read(shape) or (), strict=True):
            grow = size - x.shape[axis]
            # What does not split evenly is cropped at the end, or padded there.
            before = grow // 2 if grow >= 0 else -(-grow // 2)
            pairs[axis] = (before, grow - before)
        return pad(x, tuple(pairs))

    return kernel


# -- copies and blocks ----------------------------------------------------------------------------------------


def _tile(ctx: TranslationContext) -> Kernel:
    read = ctx.reader(1)
    return lambda x, repeats: x.repeat(read(repeats) or ())


def _depth_to_space(ctx: TranslationContext) -> Kernel:
    block, crd = ctx.node.integer("blocksize", 1), ctx.node.text("mode", "DCR") == "CRD"

    def kernel(x: Tensor) -> Tensor:
        if crd:
            return functional.pixel_shuffle(x, block)
        n, c, h, w = x.shape
        parts = x.reshape(n, block, block, c // block**2, h, w)
        return parts.permute(0, 3, 4, 1, 5, 2).reshape(n, c // block**2, h * block, w * block)

    return kernel


def _space_to_depth(ctx: TranslationContext) -> Kernel:
    block = ctx.node.integer("blocksize", 1)
    order = (0, 1, 3, 5, 2, 4) if ctx.node.text("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)

    def kernel(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        parts = x.reshape(n, c, h // block, block, w // block, block)
        return parts.permute(order).reshape(n, c * block**2, h // block, w // block)

    return kernel


def _trilu(ctx: TranslationContext) -> Kernel:
    read, upper = ctx.reader(1), ctx.node.integer("upper", 1)
    cut = torch.triu if upper else torch.tril

    def kernel(x: Tensor, k: Tensor | None = None) -> Tensor:
        return cut(x, (read(k) or (0,))[0])

    return kernel


def _reverse_sequence(ctx: TranslationContext) -> Kernel:
    time, batch = ctx.node.integer("time_axis", 0), ctx.node.integer("batch_axis", 1)

    def kernel(x: Tensor, lengths: Tensor) -> Tensor:
        rows = x.movedim((batch, time), (0, 1))
        steps = torch.arange(rows.shape[1], device=x.device)
        ends = lengths.to(x.device).reshape(-1, 1)
        places = torch.where(steps < ends, ends - 1 - steps, steps)
        picked = rows[torch.arange(rows.shape[0], device=x.device)[:, None], places]
        return picked.movedim((0, 1), (batch, time))

    return kernel
