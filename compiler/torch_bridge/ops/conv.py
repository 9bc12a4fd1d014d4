"""Convolutions, also those on integers.

Integer products are computed in double precision, which holds every sum of theirs exactly; they pass no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from graphpress.ops.semantics.window import Window, WindowAttributes
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext
from graphpress.torch_bridge.ops.quantized import centered, requantized
from graphpress.torch_bridge.ops.windows import even, pad

_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "Conv": _conv,
        "ConvInteger": _conv_integer,
        "ConvTranspose": _conv_transpose,
        "DeformConv": _deform_conv,
        "QLinearConv": _qlinear_conv,
    }


# -- convolutions ---------------------------------------------------------------------------------------------


def _conv(ctx: TranslationContext) -> Kernel:
    attributes, groups = WindowAttributes.of(ctx.node), ctx.node.integer("group", 1)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return _convolve(x, weight, bias, attributes, groups)

    return kernel


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, attributes: WindowAttributes, groups: int) -> Tensor:
    window = attributes.over(weight.shape[2:], x.shape[2:])
    padding = even(window.padding)
    if padding is None:
        x, padding = pad(x, window.padding), (0,) * len(window.kernel)
    function = _CONVOLUTIONS[len(window.kernel) - 1]
    result: Tensor = function(x, weight, bias, window.strides, padding, window.dilations, groups)
    return result


def _conv_transpose(ctx: TranslationContext) -> Kernel:
    """The whole result, of which padding cuts off the rim: on both sides alike torch does it, else we."""
    attributes, groups = WindowAttributes.of(ctx.node), ctx.node.integer("group", 1)
    given, shape = ctx.node.integers("output_padding"), ctx.node.integers("output_shape")

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        window = attributes.over(weight.shape[2:], x.shape[2:])
        rank, stride, dilation = len(window.kernel), window.strides, window.dilations
        extra = given or (0,) * rank
        function, pads = _TRANSPOSED[rank - 1], window.transposed(extra, shape)
        padding = even(pads)
        if padding is not None and all(more < max(steps) for more, *steps in zip(extra, stride, dilation, strict=True)):
            return function(x, weight, bias, stride, padding, extra, groups, dilation)
        whole = function(x, weight, None, stride, 0, 0, groups, dilation)
        cut = pad(whole, tuple((-before, more - after) for (before, after), more in zip(pads, extra, strict=True)))
        return cut if bias is None else cut + bias.reshape(-1, *(1,) * rank)

    return kernel


def _deform_conv(ctx: TranslationContext) -> Kernel:
    """Each tap of the kernel reads the image between pixels, where an offset moves it; outside there are zeros."""
    attributes, groups, offset_groups = (
        WindowAttributes.of(ctx.node),
        ctx.node.integer("group", 1),
        ctx.node.integer("offset_group", 1),
    )

    def kernel(
        x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        ctx.require(weight.dim() == 4, "more or fewer than two spatial axes")
        (n, c, _, _), (rows, columns) = x.shape, offset.shape[2:]
        taps = weight.shape[2] * weight.shape[3]
        window = attributes.over(weight.shape[2:], x.shape[2:])
        grid = _tap_grid(x, weight, offset.reshape(n * offset_groups, taps, 2, rows, columns), window)
        images = x.reshape(n * offset_groups, c // offset_groups, *x.shape[2:])
        read = functional.grid_sample(images, grid.reshape(len(grid), taps * rows, columns, 2), align_corners=True)
        read = read.reshape(n, offset_groups, -1, taps, rows, columns)
        if mask is not None:
            read = read * mask.reshape(n, offset_groups, 1, taps, rows, columns)
        parts = read.reshape(n, groups, -1, rows * columns)
        result = weight.reshape(groups, weight.shape[0] // groups, -1) @ parts
        result = result.reshape(n, -1, rows, columns)
        return result if bias is None else result + bias.reshape(-1, 1, 1)

    return kernel


def _tap_grid(x: Tensor, weight: Tensor, offset: Tensor, window: Window) -> Tensor:
    """Where every tap of every position reads: (images, taps, rows, columns, 2), x first, from -1 to 1."""
    places = []
    for axis in (0, 1):
        steps = torch.arange(offset.shape[3 + axis], device=x.device) * window.strides[axis] - window.padding[axis][0]
        taps = torch.arange(weight.shape[2 + axis], device=x.device) * window.dilations[axis]
        shape = [1, 1, 1, 1, 1]
        shape[1 + axis], shape[3 + axis] = len(taps), len(steps)
        places.append((taps[:, None] + steps[None]).reshape(shape[1:]))
    size = (weight.shape[2], weight.shape[3], *offset.shape[3:])
    grids = []
    for axis, place in enumerate(places):
        base = place.expand(size).reshape(1, -1, *offset.shape[3:])
        last = max(x.shape[2 + axis] - 1, 1)
        grids.append((base + offset[:, :, axis]) * 2 / last - 1)
    return torch.stack(grids[::-1], -1)


# -- on integers ----------------------------------------------------------------------------------------------


def _conv_integer(ctx: TranslationContext) -> Kernel:
    attributes, groups = WindowAttributes.of(ctx.node), ctx.node.integer("group", 1)

    def kernel(x: Tensor, weight: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None) -> Tensor:
        operands = centered(x, x_zero), centered(weight, w_zero, 0)
        return _convolve(*operands, None, attributes, groups).to(torch.int32)

    return kernel


def _qlinear_conv(ctx: TranslationContext) -> Kernel:
    attributes, groups = WindowAttributes.of(ctx.node), ctx.node.integer("group", 1)

    def kernel(
        x: Tensor, x_scale: Tensor, x_zero: Tensor, weight: Tensor, w_scale: Tensor, w_zero: Tensor,
        y_scale: Tensor, y_zero: Tensor, bias: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        wide = None if bias is None else bias.double()
        sums = _convolve(centered(x, x_zero), centered(weight, w_zero, 0), wide, attributes, groups)
        factor = (x_scale * w_scale / y_scale).double()
        return requantized(sums * factor.reshape(-1, *(1,) * (weight.dim() - 2)), y_zero)

    return kernel
