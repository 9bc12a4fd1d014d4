"""Convolutions.

    Conv           correlation; the kernel as weights where it is constant, else as a tensor (Q/DQ weights)
    ConvTranspose  what the padding at the end takes off is made good by ``output_padding``; beyond the last place that
                   a tap reaches stands the bias alone
    DeformConv     every tap of the kernel reads the image where its offset moves it (zeros outside), which is one grid
                   per image; then a matrix product with the kernel
    QLinearConv    Q(product(DQ(x), DQ(w)) + bias · x_scale · w_scale), of which TensorRT makes an integer kernel

TensorRT multiplies floats only (and integers behind Q/DQ as floats): integer products are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.quantized import decoded, encoded
from graphpress.backends.tensorrt.network.windows import configure, narrowed, taps, widened, window_of
from graphpress.ops.semantics.window import OPEN, Window

Operand = np.ndarray | Tensor
"""What is known before the model runs, or a tensor of the network."""


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "DeformConv": _deform_conv,
        "QLinearConv": _qlinear_conv,
    }


def _conv(ctx: LoweringContext) -> Tensor:
    x = ctx.tensor(0)
    ctx.require_floats(x)
    return convolve(ctx, x, _either(ctx, 1, "the kernel"), _bias(ctx))


def convolve(ctx: LoweringContext, x: Tensor, kernel: Operand, bias: Operand | None) -> Tensor:
    """The convolution that the node's attributes describe, over these operands."""
    window = window_of(ctx, tuple(kernel.shape)[2:], tuple(x.shape)[2:])
    layer = _with_kernel(ctx, "convolution_nd", x, kernel, int(kernel.shape[0]), bias)
    configure(ctx, layer, window)
    layer.num_groups = ctx.node.integer("group", 1)
    return narrowed(ctx, layer.get_output(0), len(x.shape))


def _either(ctx: LoweringContext, index: int, role: str) -> Operand:
    """An input of known shape: an array where it is constant, else a tensor."""
    ctx.static_shape(index, role)
    array = ctx.node.constant(index)
    return ctx.tensor(index) if array is None else array


def _with_kernel(ctx: LoweringContext, kind: str, x: Tensor, kernel: Operand, maps: int, bias: Operand | None) -> Any:
    """The layer, its kernel and bias weights where they are constant and tensors where they are computed."""
    fixed = [operand if isinstance(operand, np.ndarray) else None for operand in (kernel, bias)]
    size = taps(tuple(kernel.shape)[2:])
    layer = ctx.add(kind, widened(ctx, x), maps, size, *(ctx.weights(operand) for operand in fixed))
    if fixed[0] is None:
        layer.set_input(1, widened(ctx, kernel))
    if bias is not None and fixed[1] is None:
        layer.set_input(2, bias)
    return layer


def _bias(ctx: LoweringContext) -> Operand | None:
    return _either(ctx, 2, "the bias") if ctx.node.has(2) else None


def _conv_transpose(ctx: LoweringContext) -> Tensor:
    x, kernel = ctx.tensor(0), _either(ctx, 1, "the kernel")
    ctx.require_floats(x)
    groups = ctx.node.integer("group", 1)
    window, missing = _transposed(ctx, kernel.shape, tuple(x.shape)[2:])
    if isinstance(kernel, np.ndarray) and max(window.strides) > 1 and max(window.dilations) > 1:
        kernel, window = _inflated(kernel, window)
    bias = None if any(missing) else _bias(ctx)
    layer = _with_kernel(ctx, "deconvolution_nd", x, kernel, int(kernel.shape[1]) * groups, bias)
    configure(ctx, layer, window)
    layer.num_groups = groups
    result = narrowed(ctx, layer.get_output(0), len(x.shape))
    return _extended(ctx, result, missing) if any(missing) else result


def _inflated(kernel: np.ndarray, window: Window) -> tuple[np.ndarray, Window]:
    """A kernel without dilations, zeros between its taps: TensorRT has strides or dilations here, not both."""
    whole = np.zeros((*kernel.shape[:2], *window.extent), kernel.dtype)
    whole[(slice(None), slice(None), *(slice(None, None, step) for step in window.dilations))] = kernel
    return whole, replace(window, kernel=window.extent, dilations=(1,) * len(window.kernel))


def _transposed(ctx: LoweringContext, shape: Sequence[int], size: Sequence[int]) -> tuple[Window, list[int]]:
    """The window with what TensorRT can cut off, and per axis the elements that are missing at the end."""
    kernel = tuple(shape[2:])
    wanted = ctx.node.integers("output_shape")
    if wanted is not None and OPEN in size:
        raise ctx.refuse("output_shape with open spatial dimensions", "give the input fixed dimensions")
    window = window_of(ctx, kernel, size)
    extra = ctx.node.integers_or_zeros("output_padding", len(kernel))
    pads, missing = [], []
    for axis, (before, after) in enumerate(window.transposed(extra, wanted)):
        missing.append(max(extra[axis] - after, 0))
        pads.append((before, max(after - extra[axis], 0)))
    return window.padded(tuple(pads)), missing


def _extended(ctx: LoweringContext, result: Tensor, missing: Sequence[int]) -> Tensor:
    """Zeros at the end of the spatial axes, and the bias on all."""
    more = (0, 0, *missing)
    sizes = [ctx.calculate("SUM", size, extra) for size, extra in zip(ctx.sizes(result), more, strict=True)]
    layer = ctx.slice(result, [0] * len(more), sizes, [1] * len(more))
    layer.mode = ctx.trt.SampleMode.FILL
    layer.set_input(4, ctx.like(0, result, 0))
    return biased(ctx, layer.get_output(0), ctx.optional(2))


def biased(ctx: LoweringContext, data: Tensor, bias: Tensor | None) -> Tensor:
    """Data [batch, channels, ...] plus a bias [channels]."""
    if bias is None:
        return data
    return ctx.elementwise("SUM", data, ctx.reshape(bias, [1, -1, *(1,) * (len(data.shape) - 2)]))


# -- quantized, deformed ---------------------------------------------------------------------------------------


def _qlinear_conv(ctx: LoweringContext) -> Tensor:
    bias = None
    if ctx.node.has(8):
        scale = ctx.known(1, "the scale") * ctx.known(4, "the scale")
        bias = (ctx.known(8, "the bias") * scale.reshape(-1)).astype(scale.dtype)
    ctx.static_shape(3, "the kernel")
    return encoded(ctx, convolve(ctx, decoded(ctx, 0), decoded(ctx, 3), bias), 6)


def _deform_conv(ctx: LoweringContext) -> Tensor:
    x, weight = ctx.tensor(0), ctx.tensor(1)
    ctx.require_floats(x)
    kernel, offset = ctx.static_shape(1, "the kernel"), ctx.shape(2)
    if len(kernel) != 4 or -1 in (*offset[2:], *tuple(x.shape)[1:]):
        raise ctx.refuse("DeformConv needs two spatial axes of known size", "give the input fixed dimensions")
    groups, offset_groups = ctx.node.integer("group", 1), ctx.node.integer("offset_group", 1)
    batch, channels, taps = ctx.sizes(x)[0], int(x.shape[1]), kernel[2] * kernel[3]
    rows, columns = offset[2:]
    grid = _tap_grid(ctx, x, kernel, offset_groups)
    images = ctx.reshape(x, [-1, channels // offset_groups, int(x.shape[2]), int(x.shape[3])])
    read = ctx.cast(ctx.out("grid_sample", ctx.cast(images, grid.dtype), grid), x.dtype)
    read = ctx.reshape(read, [batch, offset_groups, channels // offset_groups, taps, rows, columns])
    if ctx.node.has(4):
        mask = ctx.reshape(ctx.tensor(4), [batch, offset_groups, 1, taps, rows, columns])
        read = ctx.elementwise("PROD", read, mask)
    parts = ctx.reshape(read, [batch, groups, channels // groups * taps, rows * columns])
    flat = ctx.reshape(weight, [1, groups, kernel[0] // groups, kernel[1] * taps])
    result = ctx.reshape(ctx.matmul(flat, parts), [batch, kernel[0], rows, columns])
    return biased(ctx, result, ctx.optional(3))


def _tap_grid(ctx: LoweringContext, x: Tensor, kernel: tuple[int, ...], groups: int) -> Tensor:
    """Where every tap of every position reads: [images, taps × rows, columns, 2], columns first."""
    window = window_of(ctx, kernel[2:], tuple(x.shape)[2:])
    rows, columns = ctx.shape(2)[2:]
    taps = kernel[2] * kernel[3]
    offset = ctx.cast(ctx.tensor(2), ctx.trt.DataType.FLOAT)
    offset = ctx.reshape(offset, [-1, taps, 2, rows, columns])
    images = ctx.calculate("PROD", ctx.sizes(x)[0], groups)
    ways = []
    for axis, size in enumerate(window.size):
        along = np.arange(kernel[2 + axis]) * window.dilations[axis]
        steps = np.arange((rows, columns)[axis]) * window.strides[axis] - window.padding[axis][0]
        shape = [1] * 4
        shape[axis], shape[2 + axis] = len(along), len(steps)
        place = np.broadcast_to((along[:, None] + steps).reshape(shape), (*kernel[2:], rows, columns))
        base = (2 * place.reshape(1, taps, 1, rows, columns) + 1) / size - 1
        moved = ctx.slice(offset, [0, 0, axis, 0, 0], [images, taps, 1, rows, columns], [1] * 5).get_output(0)
        scaled = ctx.elementwise("PROD", moved, ctx.like(2 / size, moved))
        start = ctx.constant_tensor(base.astype(np.float32))
        ways.append(ctx.reshape(ctx.elementwise("SUM", scaled, start), [images, taps * rows, columns, 1]))
    return ctx.concatenate(ways[::-1], 3)
