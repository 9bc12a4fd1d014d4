"""Quantization as TensorRT has it: symmetric, onto int8, int4 or fp8.

    Q   saturate(round(x / scale))        DQ   q · scale

One scale for the tensor, one per index of an axis, or one per block of an axis (weights). A zero point must be absent
or zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.ir import DataType

_FOUR_BITS = (DataType.INT4, DataType.FLOAT4E2M1)
_TYPES = (DataType.INT8, DataType.FLOAT8E4M3FN, *_FOUR_BITS)
_SYMMETRIC = "quantize symmetrically to int8 (recipe int8)"


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "DequantizeLinear": _dequantize,
        "QuantizeLinear": _quantize,
    }


# -- there and back -------------------------------------------------------------------------------------------


def _quantize(ctx: LoweringContext) -> Tensor:
    x, dtype = ctx.tensor(0), _quantized_type(ctx)
    _check_grid(ctx, dtype, 2)
    _check_blocks(ctx, tuple(x.shape), dtype)
    return _along(ctx, ctx.add("quantize", x, _scale(ctx, 1), ctx.tensorrt_type(dtype)), len(x.shape))


def _dequantize(ctx: LoweringContext) -> Tensor:
    _check_grid(ctx, ctx.type(0), 2)
    _check_blocks(ctx, ctx.shape(0), ctx.type(0))
    wanted = ctx.tensorrt_type(ctx.node.element_type("output_dtype") or ctx.type(1))
    return _along(ctx, ctx.add("dequantize", ctx.tensor(0), _scale(ctx, 1), wanted), ctx.rank(0))


def _quantized_type(ctx: LoweringContext) -> DataType:
    """That of the zero point, else the attribute, else bytes."""
    if ctx.node.has(2):
        return ctx.type(2)
    return ctx.node.element_type("output_dtype") or DataType.UINT8


def _scale(ctx: LoweringContext, index: int) -> Tensor:
    """A scale; one number in a vector is one for the whole tensor."""
    array = ctx.node.constant(index)
    if array is not None and array.ndim == 1 and array.size == 1:
        return ctx.constant_tensor(array.reshape(()))
    return ctx.tensor(index)


def _along(ctx: LoweringContext, layer: Any, rank: int) -> Tensor:
    """The result of a layer whose scale may go along an axis; TensorRT sees blocks from the shape of the scale."""
    shape = ctx.shape(1)
    if len(shape) == 1 and shape[0] != 1:
        layer.axis = ctx.node.axis(1, rank)
    return layer.get_output(0)


# -- what TensorRT does not take ------------------------------------------------------------------------------


def _check_grid(ctx: LoweringContext, dtype: DataType, zero_point: int) -> None:
    """Refuse what is no symmetric grid of TensorRT's.

    Raises:
        ModelError: the type is none of them, or the zero point is not zero.
    """
    if dtype not in _TYPES:
        raise ctx.refuse(f"TensorRT has no quantization with {dtype.name.lower()}", _SYMMETRIC)
    if ctx.node.has(zero_point) and np.any(ctx.known(zero_point, "the zero point").astype(np.float32)):
        raise ctx.refuse("TensorRT takes no zero point but zero", _SYMMETRIC)


def _check_blocks(ctx: LoweringContext, shape: tuple[int, ...], dtype: DataType) -> None:
    """Refuse a last block that is short, and half a byte.

    Raises:
        ModelError: blocks do not divide the axis, or a tensor of four bits has an odd number of elements.
    """
    block, scale = ctx.node.integer("block_size", 0), ctx.shape(1)
    if len(scale) > 1:
        axis = ctx.node.axis(1, len(shape))
        if shape[axis] < 0 or shape[axis] != scale[axis] * (block or shape[axis] // max(scale[axis], 1)):
            raise ctx.refuse("its blocks do not divide the axis", "choose a block_size that divides it")
    elif dtype is DataType.FLOAT4E2M1:
        raise ctx.refuse("TensorRT takes 4-bit floats with a scale per block only", _SYMMETRIC)
    if dtype in _FOUR_BITS and -1 not in shape and np.prod(shape) % 2:
        raise ctx.refuse("TensorRT takes an even number of four-bit elements only")


# -- products of quantized operands ---------------------------------------------------------------------------


def decoded(ctx: LoweringContext, first: int, axis: int = 0) -> Tensor:
    """The float tensor of an operand that is given with its scale and zero point."""
    dtype, scale = ctx.type(first), ctx.known(first + 1, "the scale")
    _check_grid(ctx, dtype, first + 2)
    layer = ctx.add("dequantize", ctx.tensor(first), _scale(ctx, first + 1), ctx.tensorrt_type(ctx.type(first + 1)))
    if scale.size > 1:
        layer.axis = axis
    return layer.get_output(0)


def encoded(ctx: LoweringContext, result: Tensor, first: int) -> Tensor:
    """A result on the grid of its scale and zero point."""
    dtype = ctx.type(first + 1)
    _check_grid(ctx, dtype, first + 1)
    return ctx.out("quantize", result, _scale(ctx, first), ctx.tensorrt_type(dtype))
