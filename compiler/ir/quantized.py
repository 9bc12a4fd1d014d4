"""The arithmetic of affine quantisation on arrays, exactly as ONNX's QuantizeLinear and DequantizeLinear define it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir

from graphpress.ir.encoding import Quantized
from graphpress.ir.types import DataType, LazyTensor, Shape, TensorProtocol

NARROW = {"int4": ml_dtypes.int4, "uint4": ml_dtypes.uint4, "int2": ml_dtypes.int2, "uint2": ml_dtypes.uint2}


def integer_dtype(name: str) -> np.dtype:
    """The numpy dtype of an ONNX integer type, those under 8 bits included."""
    dtype: np.dtype = np.dtype(NARROW.get(name, name))
    return dtype


def fits(encoding: Quantized, shape: tuple[int, ...]) -> bool:
    """Whether there are as many scales and zero-points as a tensor of this shape needs."""
    if len(encoding.scale) != len(encoding.zero_point):
        return False
    if encoding.axis is None:
        return len(encoding.scale) == 1
    if not -len(shape) <= encoding.axis < len(shape):
        return False
    if not encoding.block:
        return len(encoding.scale) == shape[encoding.axis]
    blocks = list(shape)
    blocks[encoding.axis] = -(-shape[encoding.axis] // encoding.block)
    return encoding.scale_shape == tuple(blocks)


def quantize_array(array: np.ndarray, encoding: Quantized) -> np.ndarray:
    """Round half to even onto the grid and saturate; same shape, integer dtype."""
    scale, zero_point = _spread(encoding, array.shape)
    low, high = encoding.bounds
    wide = np.float64 if encoding.dtype == "int32" else np.float32
    with np.errstate(over="ignore"):  # what overflows saturates below
        levels = np.rint(array.astype(wide) / scale.astype(wide)) + zero_point
    integers: np.ndarray = np.clip(levels, low, high).astype(np.int64).astype(integer_dtype(encoding.dtype))
    return integers


def dequantize_array(integers: np.ndarray, encoding: Quantized, dtype: np.dtype | type = np.float32) -> np.ndarray:
    """The real numbers that the integers stand for."""
    scale, zero_point = _spread(encoding, integers.shape)
    wide = np.int64 if encoding.dtype == "int32" else np.int32
    levels = integers.astype(wide) - zero_point.astype(wide)
    reals: np.ndarray = (levels.astype(np.float32) * scale).astype(dtype)
    return reals


class EncodedTensor(LazyTensor):
    """A float constant held as its integers: decoded on demand, and spelt back without a rounding.

    Args:
        integers: the payload, of the encoding's integer dtype.
        encoding: what the integers mean.
        dtype: the float type that readers see.
    """

    def __init__(self, integers: TensorProtocol, encoding: Quantized, dtype: DataType, name: str | None = None) -> None:
        self.integers, self.encoding = integers, encoding
        super().__init__(self._decode, dtype=dtype, shape=Shape(integers.shape.numpy()), name=name)

    def _decode(self) -> TensorProtocol:
        return onnx_ir.tensor(dequantize_array(self.integers.numpy(), self.encoding, self.dtype.numpy()))


def payload(tensor: TensorProtocol, encoding: Quantized) -> np.ndarray:
    """The integers of a constant under an encoding: its own payload if it has that encoding, else quantised now."""
    if isinstance(tensor, EncodedTensor) and _same_grid(tensor.encoding, encoding):
        return tensor.integers.numpy()
    return quantize_array(tensor.numpy(), encoding)


def _same_grid(a: Quantized, b: Quantized) -> bool:
    return (a.dtype, a.scale, a.zero_point, a.axis, a.block) == (b.dtype, b.scale, b.zero_point, b.axis, b.block)


def _spread(encoding: Quantized, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero-point, shaped to broadcast against a tensor of ``shape``."""
    scale = np.array(encoding.scale, dtype=np.float32)
    zero_point = np.array(encoding.zero_point, dtype=np.int64)
    if encoding.axis is None:
        return scale.reshape(()), zero_point.reshape(())
    if encoding.block:
        length = shape[encoding.axis]
        spread = [
            np.repeat(part.reshape(encoding.scale_shape), encoding.block, axis=encoding.axis).take(
                np.arange(length), axis=encoding.axis
            )
            for part in (scale, zero_point)
        ]
        return spread[0], spread[1]
    aligned = [1] * len(shape)
    aligned[encoding.axis] = -1
    return scale.reshape(aligned), zero_point.reshape(aligned)
