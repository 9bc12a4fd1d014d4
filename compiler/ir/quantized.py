"""The arithmetic of affine quantisation on arrays, exactly as ONNX's QuantizeLinear and DequantizeLinear define it.

What is said of integers holds for the numbers of an 8-bit float likewise: they are a grid with unequal steps.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir

from graphpress.ir.encoding import FLOAT8, Quantized
from graphpress.ir.types import DataType, LazyTensor, Shape, TensorProtocol

NARROW = {
    "int4": ml_dtypes.int4,
    "uint4": ml_dtypes.uint4,
    "int2": ml_dtypes.int2,
    "uint2": ml_dtypes.uint2,
    FLOAT8: ml_dtypes.float8_e4m3fn,
}
SMALLEST_HALF_SCALE = np.float32(2.0**-20)


def integer_dtype(name: str) -> np.dtype:
    """The numpy dtype of a grid by its ONNX name, those under 8 bits included."""
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
    """Round half to even onto the grid and saturate; same shape, dtype of the grid."""
    scale, zero_point = _spread(encoding, array.shape)
    wide = np.float64 if encoding.dtype == "int32" else np.float32
    with np.errstate(over="ignore"):  # what overflows saturates
        levels = to_grid(array.astype(wide) / scale.astype(wide), zero_point, encoding)
    whole = levels if encoding.dtype == FLOAT8 else levels.astype(np.int64)
    integers: np.ndarray = whole.astype(integer_dtype(encoding.dtype))
    return integers


def to_grid(steps: np.ndarray, zero_point: np.ndarray | int, encoding: Quantized) -> np.ndarray:
    """The numbers of the grid next to ``steps`` (reals by scale), as floats of the same type."""
    low, high = encoding.bounds
    if encoding.dtype == FLOAT8:
        nearest: np.ndarray = np.clip(steps, low, high).astype(integer_dtype(FLOAT8)).astype(steps.dtype)
        return nearest
    held: np.ndarray = np.clip(np.rint(steps) + zero_point, low, high)
    return held


def dequantize_array(integers: np.ndarray, encoding: Quantized, dtype: np.dtype | type = np.float32) -> np.ndarray:
    """The real numbers that the integers stand for."""
    scale, zero_point = _spread(encoding, integers.shape)
    wide = {"int32": np.int64, FLOAT8: np.float32}.get(encoding.dtype, np.int32)
    levels = integers.astype(wide) - zero_point.astype(wide)
    reals: np.ndarray = (levels.astype(np.float32) * scale).astype(dtype)
    return reals


def representable(scales: np.ndarray, dtype: str) -> np.ndarray:
    """Positive scales as float32 numbers that ``dtype`` holds exactly; no grid becomes smaller than asked for.

    Args:
        scales: any shape.
        dtype: ``float32``, or ``float16``, whose scales lie between 2⁻²⁰ (four bits are left there) and 65504.
    """
    single = np.maximum(scales.astype(np.float32), np.finfo(np.float32).tiny)
    if dtype == "float32":
        return single
    largest = np.finfo(np.float16).max
    bounded = np.clip(single, SMALLEST_HALF_SCALE, largest)
    half = bounded.astype(np.float16)
    return np.where(half < bounded, np.nextafter(half, largest), half).astype(np.float32)


def representable_like(scales: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Scales that take the place of ``old`` ones: those of half precision stay in half precision."""
    with np.errstate(over="ignore"):
        is_half = bool(np.all(old.astype(np.float16) == old))
    return representable(scales, "float16" if is_half else "float32")


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
