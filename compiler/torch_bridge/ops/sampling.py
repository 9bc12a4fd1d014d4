"""Regions of an image, and sampling at given points: RoiAlign, MaxRoiPool, GridSample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from graphpress.ops.semantics.resize import RoiAlignAttributes
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext

_MODES = {"linear": "bilinear", "cubic": "bicubic"}


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {"GridSample": _grid_sample, "MaxRoiPool": _max_roi_pool, "RoiAlign": _roi_align}


def _grid_sample(ctx: TranslationContext) -> Kernel:
    given = ctx.node.text("mode", "linear")
    mode, padding = _MODES.get(given, given), ctx.node.text("padding_mode", "zeros")
    aligned = ctx.node.flag("align_corners")
    return lambda x, grid: functional.grid_sample(x, grid, mode, padding, aligned)


def _max_roi_pool(ctx: TranslationContext) -> Kernel:
    """Bins of whole pixels, which may share a row or column; an empty bin is zero."""
    (rows, columns), scale = ctx.node.integers("pooled_shape") or (1, 1), ctx.node.number("spatial_scale", 1.0)

    def kernel(x: Tensor, regions: Tensor) -> Tensor:
        return torch.stack([_pooled(x, region, scale, rows, columns) for region in regions.tolist()])

    return kernel


def _pooled(x: Tensor, region: list[float], scale: float, rows: int, columns: int) -> Tensor:
    image, (left, top, right, bottom) = x[int(region[0])], (math.floor(corner * scale + 0.5) for corner in region[1:])
    heights = _bins(top, bottom, rows, x.shape[2])
    widths = _bins(left, right, columns, x.shape[3])
    zero = x.new_zeros(x.shape[1])
    lines = [
        torch.stack([image[:, a:b, c:d].amax((1, 2)) if a < b and c < d else zero for c, d in widths], 1)
        for a, b in heights
    ]
    return torch.stack(lines, 1)


def _bins(start: int, end: int, count: int, size: int) -> list[tuple[int, int]]:
    step = max(end - start + 1, 1) / count
    edges = ((start + math.floor(index * step), start + math.ceil((index + 1) * step)) for index in range(count))
    return [(min(max(low, 0), size), min(max(high, 0), size)) for low, high in edges]


def _roi_align(ctx: TranslationContext) -> Kernel:
    """Each bin is the mean (or the largest) of samples between pixels, on a regular grid inside it."""
    attributes = RoiAlignAttributes.of(ctx.node)
    rows, columns = attributes.rows, attributes.columns

    def kernel(x: Tensor, regions: Tensor, batch: Tensor) -> Tensor:
        shift = 0.5 if attributes.half_pixel else 0.0
        results = []
        for index, region in zip(batch.tolist(), regions.unbind(), strict=True):
            left, top, right, bottom = (region * attributes.scale - shift).unbind()
            width, height = right - left, bottom - top
            if not attributes.half_pixel:
                width, height = width.clamp(min=1), height.clamp(min=1)
            down, across = (
                attributes.samples or max(math.ceil(float(extent) / bins), 1)
                for extent, bins in ((height, rows), (width, columns))
            )
            vertical = _samples(top, height, rows, down, x.shape[2])
            horizontal = _samples(left, width, columns, across, x.shape[3])
            results.append(
                _binned(x[index], vertical, horizontal, (rows, down, columns, across), attributes.mode == "max")
            )
        return torch.stack(results) if results else x.new_zeros(0, x.shape[1], rows, columns)

    return kernel


@dataclass(frozen=True)
class _Samples:
    """Samples along one axis: the pixels on both sides, and what each contributes."""

    pixels: tuple[Tensor, Tensor]
    weights: tuple[Tensor, Tensor]


def _samples(start: Tensor, extent: Tensor, bins: int, each: int, size: int) -> _Samples:
    """Samples in the middle of equal parts; one that lies more than a pixel outside is zero."""
    places = start + (torch.arange(bins * each, device=start.device, dtype=start.dtype) + 0.5) * extent / (bins * each)
    inside = (places >= -1) & (places <= size)
    places = places.clamp(0, size - 1)
    low = places.detach().floor().long()
    ratio = places - low
    return _Samples((low, (low + 1).clamp(max=size - 1)), ((1 - ratio) * inside, ratio * inside))


def _binned(
    image: Tensor, vertical: _Samples, horizontal: _Samples, grid: tuple[int, int, int, int], largest: bool
) -> Tensor:
    """Of four products a sample: their sum, and the mean of the samples; or the largest of them all."""
    rows, down, columns, across = grid
    products = torch.stack(
        [
            image[:, row][:, :, column] * high[:, None] * wide
            for row, high in zip(vertical.pixels, vertical.weights, strict=True)
            for column, wide in zip(horizontal.pixels, horizontal.weights, strict=True)
        ]
    )
    read = (products.amax(0) if largest else products.sum(0)).reshape(-1, rows, down, columns, across)
    return read.amax((2, 4)) if largest else read.mean((2, 4))
