"""Sampling between pixels: GridSample, RoiAlign, MaxRoiPool, DeformConv; and MaxUnpool, which puts pixels back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from graphpress.bridge.pytorch.call import Call, Kernel, Translation

_FIRST_WITH_HALF_PIXEL = 16

_NAMES = {"linear": "bilinear", "cubic": "bicubic"}


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "DeformConv": _deform_conv,
        "GridSample": _grid_sample,
        "MaxRoiPool": _max_roi_pool,
        "MaxUnpool": _max_unpool,
        "RoiAlign": _roi_align,
    }


def _grid_sample(call: Call) -> Kernel:
    mode = call.text("mode", "linear")
    padding, corners = call.text("padding_mode", "zeros"), bool(call.integer("align_corners", 0))
    return lambda data, grid: functional.grid_sample(data, grid, _NAMES.get(mode, mode), padding, corners)


def _max_unpool(call: Call) -> Kernel:
    kernel = call.integers("kernel_shape") or ()
    strides = call.integers("strides") or (1,) * len(kernel)
    pads = call.integers("pads") or (0,) * (2 * len(kernel))
    read = call.reader(2)

    def run(data: Tensor, indices: Tensor, shape: Tensor | None = None) -> Tensor:
        sizes = [
            (size - 1) * stride - pads[index] - pads[index + len(kernel)] + width
            for index, (size, stride, width) in enumerate(zip(data.shape[2:], strides, kernel, strict=True))
        ]
        inner = (*data.shape[:2], *sizes)
        flat = data.new_zeros(math.prod(inner)).scatter(0, indices.reshape(-1), data.reshape(-1)).reshape(inner)
        missing = [after - before for after, before in zip(read(shape) or inner, inner, strict=True)]
        return functional.pad(flat, [side for size in reversed(missing) for side in (0, size)])

    return run


# -- deformable convolution -------------------------------------------------------------------------------------


def _deform_conv(call: Call) -> Kernel:
    strides, dilations, pads = call.integers("strides"), call.integers("dilations"), call.integers("pads")
    groups, offset_groups = call.integer("group", 1), call.integer("offset_group", 1)

    def run(
        data: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        rank = data.dim() - 2
        size = tuple(weight.shape[2:])
        window = Window(size, strides or (1,) * rank, dilations or (1,) * rank, (pads or (0,) * rank)[:rank])
        taps = window.sample(data, offset, offset_groups)
        if mask is not None:
            taps = taps * mask.unflatten(1, (offset_groups, 1, -1))
        taps = taps.flatten(1, 2).unflatten(1, (groups, -1))
        filters = weight.flatten(2).unflatten(0, (groups, -1))
        result = torch.einsum("ngck...,gock->ngo...", taps, filters).flatten(1, 2)
        return result if bias is None else result + bias.reshape(-1, *(1,) * rank)

    return run


@dataclass(frozen=True)
class Window:
    """Where a convolution reads, before it is deformed; per axis of space."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]

    def sample(self, data: Tensor, offset: Tensor, groups: int) -> Tensor:
        """The pixels at the deformed places, linear in between and zero outside.

        Args:
            data: [batch, channels, *space].
            offset: [batch, groups × taps × axes, *places].
            groups: of channels that share their offsets.

        Returns:
            [batch, groups, channels / groups, taps, *places].
        """
        space, places, count = data.shape[2:], offset.shape[2:], math.prod(self.size)
        shifts = offset.reshape(len(data) * groups, count, len(space), *places)
        start = self._start(places, data).to(shifts)
        position = (start + shifts).movedim(2, -1)
        sizes = torch.tensor(space, device=data.device, dtype=position.dtype)
        grid = ((2 * position + 1) / sizes - 1).flip(-1)
        pixels = data.reshape(len(data) * groups, -1, *space)
        taps = functional.grid_sample(pixels, grid.flatten(1, 2).to(data.dtype), align_corners=False)
        return taps.reshape(len(data), groups, pixels.shape[1], count, *places)

    def _start(self, places: Sequence[int], data: Tensor) -> Tensor:
        """The undeformed place that each tap reads, [taps, axes, *places]."""
        parts = []
        for axis, (step, dilation, before) in enumerate(zip(self.strides, self.dilations, self.before, strict=True)):
            tap = dilation * torch.arange(self.size[axis], device=data.device)
            place = step * torch.arange(places[axis], device=data.device) - before
            shape = [1] * (2 * len(places))
            shape[axis], shape[len(places) + axis] = len(tap), len(place)
            parts.append((tap[:, None] + place).reshape(shape).expand(*self.size, *places))
        return torch.stack([part.flatten(0, len(places) - 1) for part in parts], 1)


# -- regions of interest ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bins:
    """How a region is cut into bins: rows and columns of them, and samples along each side of a bin (0: as needed)."""

    rows: int
    columns: int
    samples: int
    largest: bool


def _roi_align(call: Call) -> Kernel:
    bins = Bins(
        call.integer("output_height", 1),
        call.integer("output_width", 1),
        call.integer("sampling_ratio", 0),
        call.text("mode", "avg").lower() == "max",
    )
    default = "half_pixel" if call.opset >= _FIRST_WITH_HALF_PIXEL else "output_half_pixel"
    half_pixel = call.text("coordinate_transformation_mode", default).lower() == "half_pixel"
    scale = call.number("spatial_scale", 1.0)

    def run(data: Tensor, regions: Tensor, items: Tensor) -> Tensor:
        scaled = regions * scale - (0.5 if half_pixel else 0)
        pooled = [
            align(data[item], region, bins, 0 if half_pixel else 1)
            for item, region in zip(items.tolist(), scaled, strict=True)
        ]
        return torch.stack(pooled) if pooled else data.new_zeros(0, data.shape[1], bins.rows, bins.columns)

    return run


def align(data: Tensor, region: Tensor, bins: Bins, least: int) -> Tensor:
    """A region of an image [channels, height, width] in bins, each the mean or the largest of its samples.

    The largest is taken over the weighted neighbours of all samples, not over the samples: so ONNX has it.

    Args:
        data: the image.
        region: left, top, right and bottom, in pixels.
        bins: how it is cut.
        least: smallest height and width that a region is taken to have.
    """
    left, top, right, bottom = region
    height, width = bottom - top, right - left
    if least:
        height, width = height.clamp(min=least), width.clamp(min=least)
    rows = neighbours(top, height, bins.rows, bins.samples, data.shape[1])
    columns = neighbours(left, width, bins.columns, bins.samples, data.shape[2])
    parts = [
        data[:, row][:, :, column] * (down[:, None] * along).to(data.dtype)
        for row, down in rows
        for column, along in columns
    ]
    if not parts[0].numel():
        return data.new_zeros(len(data), bins.rows, bins.columns)
    samples = torch.stack(parts).unflatten(3, (bins.columns, -1)).unflatten(2, (bins.rows, -1))
    return samples.amax((0, 3, 5)) if bins.largest else samples.sum(0).mean((2, 4))


def neighbours(start: Tensor, extent: Tensor, bins: int, samples: int, size: int) -> list[tuple[Tensor, Tensor]]:
    """For all samples along an axis the lower and the upper pixel, each as its index and its weight.

    A sample more than one pixel outside weighs nothing; nearer ones take the border's value.
    """
    bin_size = extent / bins
    count = samples or max(0, math.ceil(float(bin_size.detach())))
    inner = (torch.arange(count, device=start.device, dtype=start.dtype) + 0.5) / max(count, 1)
    position = (start + bin_size * (torch.arange(bins, device=start.device)[:, None] + inner)).reshape(-1)
    inside = (position >= -1) & (position <= size)
    position = position.clamp(0, size - 1)
    lower = position.detach().floor().long()
    share = position - lower
    return [(lower, (1 - share) * inside), ((lower + 1).clamp(max=size - 1), share * inside)]


def _max_roi_pool(call: Call) -> Kernel:
    rows, columns = call.integers("pooled_shape") or (1, 1)
    scale = call.number("spatial_scale", 1.0)

    def run(data: Tensor, regions: Tensor) -> Tensor:
        pooled = [
            largest(data[int(item)], [round_half_up(scale * side) for side in sides], rows, columns)
            for item, *sides in regions.tolist()
        ]
        return torch.stack(pooled) if pooled else data.new_zeros(0, data.shape[1], rows, columns)

    return run


def round_half_up(number: float) -> int:
    """The nearest integer, the one farther from zero where two are."""
    return int(math.copysign(math.floor(abs(number) + 0.5), number))


def largest(data: Tensor, region: Sequence[int], rows: int, columns: int) -> Tensor:
    """The largest pixel of each bin of a region (left, top, right, bottom, both ends included); 0 in an empty bin."""
    left, top, right, bottom = region
    down = _edges(top, bottom, rows, data.shape[1])
    along = _edges(left, right, columns, data.shape[2])
    pooled = [
        data[:, low:high, first:last].amax((1, 2)) if low < high and first < last else data.new_zeros(len(data))
        for low, high in down
        for first, last in along
    ]
    return torch.stack(pooled, 1).reshape(len(data), rows, columns)


def _edges(start: int, end: int, bins: int, size: int) -> list[tuple[int, int]]:
    width = max(end - start + 1, 1) / bins
    bounds = [(math.floor(index * width) + start, math.ceil((index + 1) * width) + start) for index in range(bins)]
    return [(min(max(low, 0), size), min(max(high, 0), size)) for low, high in bounds]
