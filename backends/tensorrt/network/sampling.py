"""Reading between pixels: TensorRT's layer that samples an image on a grid, and what is made of it.

    GridSample   the layer itself; image and grid of different types meet in single precision
    DeformConv   every tap of the kernel reads the image where its offset moves it (zeros outside), which is one grid
                 per image; then a matrix product with the kernel
    RoiAlign     a fixed number of samples for each cell of each region, as one grid over a single image or one per
                 region over its own; then a mean over each cell

A grid counts from -1 at the first pixel's outer edge to 1 at the last one's: g = (2·p + 1) / size - 1. Coordinates are
computed in single precision, unless a GridSample comes in halves. Refused: numbers of samples that follow from the
region's size (``sampling_ratio`` 0).
"""

from __future__ import annotations

import numpy as np

from graphpress.backends.tensorrt.network.call import Call, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.linear import biased, floats, multiply
from graphpress.backends.tensorrt.network.windows import Window, assign

_MODES = {"bilinear": "LINEAR", "linear": "LINEAR", "nearest": "NEAREST", "bicubic": "CUBIC", "cubic": "CUBIC"}
_HALF_PIXEL_SINCE = 16
"""Before this operator set, RoiAlign had no choice of coordinates."""
_OUTSIDE = {"zeros": "FILL", "border": "CLAMP", "reflection": "REFLECT"}


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {"DeformConv": _deform_conv, "GridSample": _grid_sample, "RoiAlign": _roi_align}


def _grid_sample(call: Call) -> Tensor:
    x, grid = call.tensor(0), call.tensor(1)
    floats(call, x, grid)
    mode, outside = call.text("mode", "linear"), call.text("padding_mode", "zeros")
    if mode not in _MODES or outside not in _OUTSIDE:
        raise call.refuse(f"unknown mode {mode!r} or padding_mode {outside!r}")
    if len(x.shape) > 4 and _MODES[mode] == "CUBIC":
        raise call.refuse("cubic interpolation in more than two dimensions")
    common = x.dtype if x.dtype == grid.dtype else call.trt.DataType.FLOAT
    layer = call.add("grid_sample", call.cast(x, common), call.cast(grid, common))
    layer.interpolation_mode = getattr(call.trt.InterpolationMode, _MODES[mode])
    layer.sample_mode = getattr(call.trt.SampleMode, _OUTSIDE[outside])
    layer.align_corners = bool(call.integer("align_corners", 0))
    return call.cast(layer.get_output(0), x.dtype)


def _deform_conv(call: Call) -> Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    floats(call, x)
    kernel, offset = call.static_shape(1, "the kernel"), call.shape(2)
    if len(kernel) != 4 or -1 in (*offset[2:], *tuple(x.shape)[1:]):
        raise call.refuse("DeformConv needs two spatial axes of known size", "give the input fixed dimensions")
    groups, offset_groups = call.integer("group", 1), call.integer("offset_group", 1)
    batch, channels, taps = call.sizes(x)[0], int(x.shape[1]), kernel[2] * kernel[3]
    rows, columns = offset[2:]
    grid = _tap_grid(call, x, kernel, offset_groups)
    images = call.reshape(x, [-1, channels // offset_groups, int(x.shape[2]), int(x.shape[3])])
    read = call.cast(call.out("grid_sample", call.cast(images, grid.dtype), grid), x.dtype)
    read = call.reshape(read, [batch, offset_groups, channels // offset_groups, taps, rows, columns])
    if call.has(4):
        mask = call.reshape(call.tensor(4), [batch, offset_groups, 1, taps, rows, columns])
        read = call.elementwise("PROD", read, mask)
    parts = call.reshape(read, [batch, groups, channels // groups * taps, rows * columns])
    flat = call.reshape(weight, [1, groups, kernel[0] // groups, kernel[1] * taps])
    result = call.reshape(multiply(call, flat, parts), [batch, kernel[0], rows, columns])
    return biased(call, result, call.optional(3))


def _tap_grid(call: Call, x: Tensor, kernel: tuple[int, ...], groups: int) -> Tensor:
    """Where every tap of every position reads: [images, taps × rows, columns, 2], columns first."""
    window = Window.of(call, kernel[2:], tuple(x.shape)[2:])
    assert window.pads is not None
    rows, columns = call.shape(2)[2:]
    taps = kernel[2] * kernel[3]
    offset = call.cast(call.tensor(2), call.trt.DataType.FLOAT)
    offset = call.reshape(offset, [-1, taps, 2, rows, columns])
    images = call.calculate("PROD", call.sizes(x)[0], groups)
    ways = []
    for axis, size in enumerate(window.size):
        along = np.arange(kernel[2 + axis]) * window.dilations[axis]
        steps = np.arange((rows, columns)[axis]) * window.strides[axis] - window.pads[axis][0]
        shape = [1] * 4
        shape[axis], shape[2 + axis] = len(along), len(steps)
        place = np.broadcast_to((along[:, None] + steps).reshape(shape), (*kernel[2:], rows, columns))
        base = (2 * place.reshape(1, taps, 1, rows, columns) + 1) / size - 1
        moved = call.slice(offset, [0, 0, axis, 0, 0], [images, taps, 1, rows, columns], [1] * 5).get_output(0)
        scaled = call.elementwise("PROD", moved, call.like(2 / size, moved))
        start = call.constant_tensor(base.astype(np.float32))
        ways.append(call.reshape(call.elementwise("SUM", scaled, start), [images, taps * rows, columns, 1]))
    return call.concatenate(ways[::-1], 3)


# -- regions --------------------------------------------------------------------------------------------------


def _roi_align(call: Call) -> Tensor:
    """Mask R-CNN's pooling of regions (arXiv:1703.06870, section 3)."""
    x, count = call.tensor(0), call.integer("sampling_ratio", 0)
    floats(call, x)
    if count < 1 or call.text("mode", "avg") != "avg":
        raise call.refuse(
            "RoiAlign of a number of samples that follows from the region's size, or of their maximum",
            "export it with sampling_ratio 2 and mode avg",
        )
    cells = [call.integer("output_height", 1), call.integer("output_width", 1)]
    rows, columns = (size * count for size in cells)
    grid, inside = _region_grid(call, x, (rows, columns))
    regions, channels = call.sizes(grid)[0], int(x.shape[1])
    single = int(x.shape[0]) == 1
    wide = call.cast(x, call.trt.DataType.FLOAT)
    if single:
        high = call.calculate("PROD", regions, rows)
        grid, inside = call.reshape(grid, [1, high, columns, 2]), call.reshape(inside, [1, 1, high, columns])
    else:
        wide = call.gather(wide, call.tensor(2), 0)
    layer = call.add("grid_sample", wide, grid)
    layer.sample_mode = call.trt.SampleMode.CLAMP
    read = call.elementwise("PROD", layer.get_output(0), inside)
    pool = call.add("pooling_nd", read, call.trt.PoolingType.AVERAGE, (count, count))
    assign(call, pool, "stride_nd", (count, count))
    result = pool.get_output(0)
    if single:
        result = call.transpose(call.reshape(result, [channels, regions, *cells]), [1, 0, 2, 3])
    return call.cast(result, x.dtype)


def _region_grid(call: Call, x: Tensor, samples: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where each region is sampled, [regions, rows, columns, 2], and where that counts, [regions, 1, rows, columns].

    Beyond one pixel outside of the image there is nothing; nearer, its rim goes on.
    """
    single = call.trt.DataType.FLOAT
    modern = call.opset >= _HALF_PIXEL_SINCE
    mode = call.text("coordinate_transformation_mode", "half_pixel" if modern else "output_half_pixel")
    shift = 0.5 if mode == "half_pixel" else 0.0
    corners = call.cast(call.tensor(1), single)
    scaled = call.elementwise("PROD", corners, call.like(call.number("spatial_scale", 1.0), corners))
    corners = call.elementwise("SUB", scaled, call.like(shift, scaled))
    regions = call.sizes(corners)[0]
    ways, inside = [], []
    for axis, number in enumerate(samples):
        place = _places(call, corners, axis, number, least=0.0 if shift else 1.0)
        length = call.as_operand(call.sizes(x)[2 + axis], place)
        near = call.elementwise("LESS", place, call.like(-1, place)), call.elementwise("GREATER", place, length)
        inside.append(call.unary("NOT", call.elementwise("OR", *near)))
        doubled = call.elementwise("SUM", call.elementwise("PROD", place, call.like(2, place)), call.like(1, place))
        ways.append(call.elementwise("SUB", call.elementwise("DIV", doubled, length), call.like(1, place)))
    shapes = [[regions, samples[0], 1, 1], [regions, 1, samples[1], 1]]
    sizes = [regions, *samples, 1]
    parts = [call.expand(call.reshape(way, shape), sizes) for way, shape in zip(ways, shapes, strict=True)]
    both = [
        call.reshape(call.cast(one, single), [regions, 1, *shape[1:3]])
        for one, shape in zip(inside, shapes, strict=True)
    ]
    return call.concatenate(parts[::-1], 3), call.elementwise("PROD", *both)


def _places(call: Call, corners: Tensor, axis: int, number: int, least: float) -> Tensor:
    """Where samples fall along an axis, [regions, number]; a region is at least so long, where that is not zero."""
    regions = call.sizes(corners)[0]
    ends = (call.slice(corners, [0, place], [regions, 1], [1, 1]).get_output(0) for place in (1 - axis, 3 - axis))
    start, end = ends
    extent = call.elementwise("SUB", end, start)
    if least:
        extent = call.elementwise("MAX", extent, call.like(least, extent))
    fractions = call.constant_tensor(((np.arange(number, dtype=np.float32) + 0.5) / number)[None])
    return call.elementwise("SUM", start, call.elementwise("PROD", extent, fractions))
