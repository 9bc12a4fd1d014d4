"""Quantisation as TensorRT has it: symmetric, onto int8, int4 or fp8.

    Q   saturate(round(x / scale))        DQ   q · scale

One scale for the tensor, one per index of an axis, or one per block of an axis (weights). A zero point must be absent
or zero. Products of quantised operands are spelt as TensorRT wants them, float products between DQ and Q, of which it
makes integer kernels:

    QLinearConv, QLinearMatMul   Q(product(DQ(x), DQ(w)) + bias · x_scale · w_scale)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.call import Call, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.linear import convolve, product
from graphpress.ir import DataType

_FOUR_BITS = (DataType.INT4, DataType.FLOAT4E2M1)
_TYPES = (DataType.INT8, DataType.FLOAT8E4M3FN, *_FOUR_BITS)
_SYMMETRIC = "quantise symmetrically to int8 (recipe int8)"


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "DequantizeLinear": _dequantize,
        "QLinearConv": _qlinear_conv,
        "QLinearMatMul": _qlinear_matmul,
        "QuantizeLinear": _quantize,
    }


# -- there and back -------------------------------------------------------------------------------------------


def _quantize(call: Call) -> Tensor:
    x, dtype = call.tensor(0), _quantised_type(call)
    _check_grid(call, dtype, 2)
    _check_blocks(call, tuple(x.shape), dtype)
    return _along(call, call.add("quantize", x, _scale(call, 1), call.tensorrt_type(dtype)), len(x.shape))


def _dequantize(call: Call) -> Tensor:
    _check_grid(call, call.type(0), 2)
    _check_blocks(call, call.shape(0), call.type(0))
    asked = call.type_attribute("output_dtype") or DataType.UNDEFINED
    wanted = call.tensorrt_type(call.type(1) if asked == DataType.UNDEFINED else asked)
    return _along(call, call.add("dequantize", call.tensor(0), _scale(call, 1), wanted), call.rank(0))


def _quantised_type(call: Call) -> DataType:
    """That of the zero point, else the attribute, else bytes."""
    if call.has(2):
        return call.type(2)
    asked = call.type_attribute("output_dtype") or DataType.UNDEFINED
    return DataType.UINT8 if asked == DataType.UNDEFINED else asked


def _scale(call: Call, index: int) -> Tensor:
    """A scale; one number in a vector is one for the whole tensor."""
    array = call.constant(index)
    if array is not None and array.ndim == 1 and array.size == 1:
        return call.constant_tensor(array.reshape(()))
    return call.tensor(index)


def _along(call: Call, layer: Any, rank: int) -> Tensor:
    """The result of a layer whose scale may go along an axis; TensorRT sees blocks from the shape of the scale."""
    shape = call.shape(1)
    if len(shape) == 1 and shape[0] != 1:
        layer.axis = call.axis(1, rank)
    return layer.get_output(0)


# -- what TensorRT does not take ------------------------------------------------------------------------------


def _check_grid(call: Call, dtype: DataType, zero_point: int) -> None:
    """Refuse what is no symmetric grid of TensorRT's.

    Raises:
        ModelError: the type is none of them, or the zero point is not zero.
    """
    if dtype not in _TYPES:
        raise call.refuse(f"TensorRT has no quantisation with {dtype.name.lower()}", _SYMMETRIC)
    if call.has(zero_point) and np.any(call.known(zero_point, "the zero point").astype(np.float32)):
        raise call.refuse("TensorRT takes no zero point but zero", _SYMMETRIC)


def _check_blocks(call: Call, shape: tuple[int, ...], dtype: DataType) -> None:
    """Refuse a last block that is short, and half a byte.

    Raises:
        ModelError: blocks do not divide the axis, or a tensor of four bits has an odd number of elements.
    """
    block, scale = call.integer("block_size", 0), call.shape(1)
    if len(scale) > 1:
        axis = call.axis(1, len(shape))
        if shape[axis] < 0 or shape[axis] != scale[axis] * (block or shape[axis] // max(scale[axis], 1)):
            raise call.refuse("its blocks do not divide the axis", "choose a block_size that divides it")
    elif dtype is DataType.FLOAT4E2M1:
        raise call.refuse("TensorRT takes 4-bit floats with a scale per block only", _SYMMETRIC)
    if dtype in _FOUR_BITS and -1 not in shape and np.prod(shape) % 2:
        raise call.refuse("TensorRT takes an even number of four-bit elements only")


# -- products of quantised operands ---------------------------------------------------------------------------


def _decoded(call: Call, first: int, axis: int = 0) -> Tensor:
    """The float tensor of an operand that is given with its scale and zero point."""
    dtype, scale = call.type(first), call.known(first + 1, "the scale")
    _check_grid(call, dtype, first + 2)
    layer = call.add(
        "dequantize", call.tensor(first), _scale(call, first + 1), call.tensorrt_type(call.type(first + 1))
    )
    if scale.size > 1:
        layer.axis = axis
    return layer.get_output(0)


def _encoded(call: Call, result: Tensor, first: int) -> Tensor:
    """A result on the grid of its scale and zero point."""
    dtype = call.type(first + 1)
    _check_grid(call, dtype, first + 1)
    return call.out("quantize", result, _scale(call, first), call.tensorrt_type(dtype))


def _qlinear_conv(call: Call) -> Tensor:
    bias = None
    if call.has(8):
        scale = call.known(1, "the scale") * call.known(4, "the scale")
        bias = (call.known(8, "the bias") * scale.reshape(-1)).astype(scale.dtype)
    call.static_shape(3, "the kernel")
    return _encoded(call, convolve(call, _decoded(call, 0), _decoded(call, 3), bias), 6)


def _qlinear_matmul(call: Call) -> Tensor:
    if call.known(1, "the scale").size > 1:
        raise call.refuse("TensorRT takes one scale for the left operand", "quantise it per tensor")
    b = _decoded(call, 3, max(call.rank(3) - 1, 0))
    return _encoded(call, product(call, _decoded(call, 0), b), 6)
