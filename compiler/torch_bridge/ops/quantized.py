"""Operators between float and integer grids.

    q = saturate(round(x / scale) + zero_point)         x = (q - zero_point) · scale

Integers pass no gradient: a model that trains through its quantization has it as encodings, which the bridge turns
into fake quantization. Integers under eight bits are held in eight.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphpress.ir import DataType
from graphpress.ir.encoding import integer_bounds
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext
from graphpress.torch_bridge.tensors import torch_dtype


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "DequantizeLinear": _dequantize,
        "DynamicQuantizeLinear": _quantize_dynamically,
        "QuantizeLinear": _quantize,
    }


def spread(parameter: Tensor, data: Tensor, axis: int, block: int) -> Tensor:
    """Scales or zero points so that they broadcast over the data: one, one per index of an axis, or one per block."""
    if parameter.numel() == 1 and parameter.dim() < 2:
        return parameter.reshape(())
    axis = axis % data.dim()
    if parameter.dim() == 1 and not block:
        return parameter.reshape(-1, *(1,) * (data.dim() - axis - 1))
    size = data.shape[axis]
    return parameter.repeat_interleave(block or -(-size // parameter.shape[axis]), axis).narrow(axis, 0, size)


def _quantize(ctx: TranslationContext) -> Kernel:
    axis, block = ctx.node.integer("axis", 1), ctx.node.integer("block_size", 0)
    precision, dtype = ctx.node.integer("precision", 0), _quantized_type(ctx)
    exact = ctx.node.integer("saturate", 1) or not torch_dtype(dtype).is_floating_point
    ctx.require(bool(exact), "short floats that do not saturate")

    def run(data: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        divisor = spread(scale, data, axis, block).to(torch_dtype(precision) if precision else scale.dtype)
        scaled = data.to(divisor.dtype) / divisor
        if zero_point is None or zero_point.is_floating_point():
            return to_grid(scaled, 0, dtype)
        return to_grid(scaled, spread(zero_point.float(), data, axis, block), dtype)

    return run


def _quantized_type(ctx: TranslationContext) -> DataType:
    """That of the zero point, else the attribute, else bytes."""
    zero_point = ctx.node.input(2)
    if zero_point is not None and zero_point.dtype is not None:
        return zero_point.dtype
    return DataType(ctx.node.integer("output_dtype", 0) or DataType.UINT8)


def to_grid(scaled: Tensor, zero_point: Tensor | int, dtype: DataType) -> Tensor:
    """The nearest numbers of a type, ties to even."""
    target = torch_dtype(dtype)
    if target.is_floating_point:
        limit = torch.finfo(target).max
        return scaled.clamp(-limit, limit).to(target)
    low, high = integer_bounds(dtype.name.lower())
    return (scaled.round().float() + zero_point).clamp(low, high).to(target)


def _dequantize(ctx: TranslationContext) -> Kernel:
    axis, block, dtype = (
        ctx.node.integer("axis", 1),
        ctx.node.integer("block_size", 0),
        ctx.node.integer("output_dtype", 0),
    )

    def run(data: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        target = torch_dtype(dtype) if dtype else scale.dtype
        wide = torch.promote_types(scale.dtype, torch.float32)
        centered = data.to(wide)
        if zero_point is not None and not zero_point.is_floating_point():
            centered = centered - spread(zero_point.to(wide), data, axis, block)
        return (centered * spread(scale.to(wide), data, axis, block)).to(target)

    return run


def _quantize_dynamically(ctx: TranslationContext) -> Kernel:
    """The range of the tensor, zero included, over all bytes."""
    del ctx

    def run(data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = data.amin().clamp(max=0), data.amax().clamp(min=0)
        scale = torch.where(high == low, torch.ones_like(low), high - low) / 255
        zero_point = (-low / scale).clamp(0, 255).round()
        return to_grid(data / scale, zero_point, DataType.UINT8), scale, zero_point.to(torch.uint8)

    return run


def centered(integers: Tensor, zero: Tensor | None, axis: int = 0) -> Tensor:
    """Integers less their zero-point, in double precision."""
    return integers.double() if zero is None else integers.double() - along(zero, integers, axis).double()


def along(parameter: Tensor, data: Tensor, axis: int) -> Tensor:
    """A scale or zero-point, one for all or one per index of an axis, shaped to broadcast against the data."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    if parameter.dim() > 1:
        return parameter
    return parameter.reshape([-1 if index == axis % data.dim() else 1 for index in range(data.dim())])


def requantized(numbers: Tensor, zero: Tensor) -> Tensor:
    """Numbers on the scale of the result, as integers of the type of its zero-point."""
    limits = torch.iinfo(zero.dtype)
    return (numbers.round() + zero.reshape(()).double()).clamp(limits.min, limits.max).to(zero.dtype)
