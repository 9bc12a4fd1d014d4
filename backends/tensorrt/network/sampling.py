"""Reading between pixels: TensorRT's layer that samples an image on a grid, and what is made of it.

    GridSample   the layer itself; image and grid of different types meet in single precision
    RoiAlign     a fixed number of samples for each cell of each region, as one grid over a single image or one per
                 region over its own; then a mean over each cell

A grid counts from -1 at the first pixel's outer edge to 1 at the last one's: g = (2·p + 1) / size - 1. Coordinates are
computed in single precision, unless a GridSample comes in halves. Refused: numbers of samples that follow from the
region's size (``sampling_ratio`` 0).
"""

from __future__ import annotations

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.windows import assign
from graphpress.ops.semantics.resize import RoiAlignAttributes

_MODES = {"bilinear": "LINEAR", "linear": "LINEAR", "nearest": "NEAREST", "bicubic": "CUBIC", "cubic": "CUBIC"}
_OUTSIDE = {"zeros": "FILL", "border": "CLAMP", "reflection": "REFLECT"}


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {"GridSample": _grid_sample, "RoiAlign": _roi_align}


def _grid_sample(ctx: LoweringContext) -> Tensor:
    x, grid = ctx.tensor(0), ctx.tensor(1)
    ctx.require_floats(x, grid)
    mode, outside = ctx.node.text("mode", "linear"), ctx.node.text("padding_mode", "zeros")
    if mode not in _MODES or outside not in _OUTSIDE:
        raise ctx.refuse(f"unknown mode {mode!r} or padding_mode {outside!r}")
    if len(x.shape) > 4 and _MODES[mode] == "CUBIC":
        raise ctx.refuse("cubic interpolation in more than two dimensions")
    common = x.dtype if x.dtype == grid.dtype else ctx.trt.DataType.FLOAT
    layer = ctx.add("grid_sample", ctx.cast(x, common), ctx.cast(grid, common))
    layer.interpolation_mode = getattr(ctx.trt.InterpolationMode, _MODES[mode])
    layer.sample_mode = getattr(ctx.trt.SampleMode, _OUTSIDE[outside])
    layer.align_corners = ctx.node.flag("align_corners")
    return ctx.cast(layer.get_output(0), x.dtype)


# -- regions --------------------------------------------------------------------------------------------------


def _roi_align(ctx: LoweringContext) -> Tensor:
    """Mask R-CNN's pooling of regions (arXiv:1703.06870, section 3)."""
    x, attributes = ctx.tensor(0), RoiAlignAttributes.of(ctx.node)
    ctx.require_floats(x)
    count = attributes.samples
    if count < 1 or attributes.mode != "avg":
        raise ctx.refuse(
            "RoiAlign of a number of samples that follows from the region's size, or of their maximum",
            "export it with sampling_ratio 2 and mode avg",
        )
    cells = [attributes.rows, attributes.columns]
    rows, columns = (size * count for size in cells)
    grid, inside = _region_grid(ctx, x, attributes)
    regions, channels = ctx.sizes(grid)[0], int(x.shape[1])
    single = int(x.shape[0]) == 1
    wide = ctx.cast(x, ctx.trt.DataType.FLOAT)
    if single:
        high = ctx.calculate("PROD", regions, rows)
        grid, inside = ctx.reshape(grid, [1, high, columns, 2]), ctx.reshape(inside, [1, 1, high, columns])
    else:
        wide = ctx.gather(wide, ctx.tensor(2), 0)
    layer = ctx.add("grid_sample", wide, grid)
    layer.sample_mode = ctx.trt.SampleMode.CLAMP
    read = ctx.elementwise("PROD", layer.get_output(0), inside)
    pool = ctx.add("pooling_nd", read, ctx.trt.PoolingType.AVERAGE, (count, count))
    assign(ctx, pool, "stride_nd", (count, count))
    result = pool.get_output(0)
    if single:
        result = ctx.transpose(ctx.reshape(result, [channels, regions, *cells]), [1, 0, 2, 3])
    return ctx.cast(result, x.dtype)


def _region_grid(ctx: LoweringContext, x: Tensor, attributes: RoiAlignAttributes) -> tuple[Tensor, Tensor]:
    """Where each region is sampled, [regions, rows, columns, 2], and where that counts, [regions, 1, rows, columns].

    Beyond one pixel outside of the image there is nothing; nearer, its rim goes on.
    """
    single = ctx.trt.DataType.FLOAT
    shift = 0.5 if attributes.half_pixel else 0.0
    samples = (attributes.rows * attributes.samples, attributes.columns * attributes.samples)
    corners = ctx.cast(ctx.tensor(1), single)
    scaled = ctx.elementwise("PROD", corners, ctx.like(attributes.scale, corners))
    corners = ctx.elementwise("SUB", scaled, ctx.like(shift, scaled))
    regions = ctx.sizes(corners)[0]
    ways, inside = [], []
    for axis, number in enumerate(samples):
        place = _places(ctx, corners, axis, number, least=0.0 if shift else 1.0)
        length = ctx.as_operand(ctx.sizes(x)[2 + axis], place)
        near = ctx.elementwise("LESS", place, ctx.like(-1, place)), ctx.elementwise("GREATER", place, length)
        inside.append(ctx.unary("NOT", ctx.elementwise("OR", *near)))
        doubled = ctx.elementwise("SUM", ctx.elementwise("PROD", place, ctx.like(2, place)), ctx.like(1, place))
        ways.append(ctx.elementwise("SUB", ctx.elementwise("DIV", doubled, length), ctx.like(1, place)))
    shapes = [[regions, samples[0], 1, 1], [regions, 1, samples[1], 1]]
    sizes = [regions, *samples, 1]
    parts = [ctx.expand(ctx.reshape(way, shape), sizes) for way, shape in zip(ways, shapes, strict=True)]
    both = [
        ctx.reshape(ctx.cast(mask, single), [regions, 1, *shape[1:3]])
        for mask, shape in zip(inside, shapes, strict=True)
    ]
    return ctx.concatenate(parts[::-1], 3), ctx.elementwise("PROD", *both)


def _places(ctx: LoweringContext, corners: Tensor, axis: int, number: int, least: float) -> Tensor:
    """Where samples fall along an axis, [regions, number]; a region is at least so long, where that is not zero."""
    regions = ctx.sizes(corners)[0]
    ends = (ctx.slice(corners, [0, place], [regions, 1], [1, 1]).get_output(0) for place in (1 - axis, 3 - axis))
    start, end = ends
    extent = ctx.elementwise("SUB", end, start)
    if least:
        extent = ctx.elementwise("MAX", extent, ctx.like(least, extent))
    fractions = ctx.constant_tensor(((np.arange(number, dtype=np.float32) + 0.5) / number)[None])
    return ctx.elementwise("SUM", start, ctx.elementwise("PROD", extent, fractions))
