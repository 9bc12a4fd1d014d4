"""Element types: ONNX's, numpy's and TensorRT's names for one another, and arrays as TensorRT's weights.

TensorRT has no float64, complex, string, unsigned (but 8 bits) or 16-bit integer tensors; those are refused rather than
narrowed. A TensorRT without 64-bit integers (before 10) gets 32 bits for them, as its own parser does: they count
elements and positions there, and a constant that does not fit is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphpress.errors import ModelError
from graphpress.ir import DataType

_NAMES = {
    DataType.FLOAT: "FLOAT",
    DataType.FLOAT16: "HALF",
    DataType.BFLOAT16: "BF16",
    DataType.FLOAT8E4M3FN: "FP8",
    DataType.FLOAT4E2M1: "FP4",
    DataType.INT4: "INT4",
    DataType.INT8: "INT8",
    DataType.INT32: "INT32",
    DataType.INT64: "INT64",
    DataType.UINT8: "UINT8",
    DataType.BOOL: "BOOL",
}
_TYPES = {name: dtype for dtype, name in _NAMES.items()}
_FLOATS = ("FLOAT", "HALF", "BF16")
_INTEGERS = ("INT32", "INT64")
_PACKED = ("INT4", "FP4")
_FIX = "cast it to a type that TensorRT has (float32, float16, bfloat16, int32, int64, bool)"


def tensorrt_type(trt: Any, dtype: DataType, where: str = "") -> Any:
    """TensorRT's name for an element type of ONNX.

    Raises:
        ModelError: this TensorRT has no tensors of that type.
    """
    name = _NAMES.get(dtype, "")
    wanted = getattr(trt.DataType, name, None) if name else None
    if wanted is None and dtype is DataType.INT64:
        wanted = trt.DataType.INT32
    if wanted is None:
        raise ModelError(f"TensorRT has no tensors of type {dtype.name.lower()}", where=where, fix=_FIX)
    return wanted


def onnx_type(dtype: Any) -> DataType:
    """ONNX's name for an element type of TensorRT."""
    return _TYPES[dtype.name]


def index_type(trt: Any) -> Any:
    """The type of shapes and positions: 64-bit integers where TensorRT has them."""
    return tensorrt_type(trt, DataType.INT64)


def is_float(dtype: Any) -> bool:
    """Whether a TensorRT type is a float that layers compute in."""
    return dtype.name in _FLOATS


def is_integer(dtype: Any) -> bool:
    """Whether a TensorRT type is an integer that layers compute in."""
    return dtype.name in _INTEGERS


def is_bool(dtype: Any) -> bool:
    """Whether a TensorRT type is the boolean."""
    return bool(dtype.name == "BOOL")


def weights(trt: Any, array: np.ndarray, where: str = "") -> tuple[Any, np.ndarray]:
    """TensorRT's view of an array, and the memory that it views, which must outlive the build.

    Raises:
        ModelError: this TensorRT has no such type, or integers that do not fit into the one it has.
    """
    dtype = tensorrt_type(trt, DataType.from_numpy(array.dtype), where)
    if dtype.name == "INT32" and array.dtype == np.int64:
        array = _narrowed(array, where)
    data = _pack(array) if dtype.name in _PACKED else np.ascontiguousarray(array)
    return trt.Weights(dtype, data.ctypes.data if array.size else 0, array.size), data


def _narrowed(array: np.ndarray, where: str) -> np.ndarray:
    """32 bits for 64; the ends of the range stand for "to the end" in slices, and stay the ends."""
    limits = np.iinfo(np.int32)
    wide = np.iinfo(np.int64)
    inside = (array >= limits.min) & (array <= limits.max)
    if not np.all(inside | (array == wide.max) | (array == wide.min)):
        raise ModelError(
            "holds integers beyond 32 bits, all that this TensorRT has", where=where, fix="use smaller ones"
        )
    narrow: np.ndarray = np.clip(array, limits.min, limits.max).astype(np.int32)
    return narrow


def _pack(array: np.ndarray) -> np.ndarray:
    """Two 4-bit numbers a byte, the first in the low half."""
    codes = np.ascontiguousarray(array).reshape(-1).view(np.uint8) & 0x0F
    codes = np.append(codes, np.uint8(0)) if codes.size % 2 else codes
    return np.asarray(codes[0::2] | (codes[1::2] << 4), np.uint8)
