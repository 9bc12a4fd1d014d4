"""Arrays and tensors: between numpy with ONNX's types and torch."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from graphpress.ir import DataType
from graphpress.torch_bridge.context import UntranslatableError

_VIEWED = {
    np.dtype(ml_dtypes.bfloat16): (np.int16, torch.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn): (np.uint8, torch.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e5m2): (np.uint8, torch.float8_e5m2),
    np.dtype(ml_dtypes.float8_e4m3fnuz): (np.uint8, torch.float8_e4m3fnuz),
    np.dtype(ml_dtypes.float8_e5m2fnuz): (np.uint8, torch.float8_e5m2fnuz),
    np.dtype(ml_dtypes.float8_e8m0fnu): (np.uint8, torch.float8_e8m0fnu),
}
"""Types that numpy does not know itself: the integers of the same width under which their bits are handed over."""

_WIDENED = {
    np.dtype(ml_dtypes.int4): np.int8,
    np.dtype(ml_dtypes.uint4): np.uint8,
    np.dtype(ml_dtypes.int2): np.int8,
    np.dtype(ml_dtypes.uint2): np.uint8,
}
"""Integers under eight bits are computed with in eight."""

_DTYPES = {
    DataType.FLOAT: torch.float32, DataType.DOUBLE: torch.float64, DataType.FLOAT16: torch.float16,
    DataType.BFLOAT16: torch.bfloat16, DataType.FLOAT8E4M3FN: torch.float8_e4m3fn,
    DataType.FLOAT8E5M2: torch.float8_e5m2, DataType.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    DataType.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz, DataType.FLOAT8E8M0: torch.float8_e8m0fnu,
    DataType.INT8: torch.int8, DataType.INT16: torch.int16,
    DataType.INT32: torch.int32, DataType.INT64: torch.int64, DataType.UINT8: torch.uint8,
    DataType.UINT16: torch.uint16, DataType.UINT32: torch.uint32, DataType.UINT64: torch.uint64,
    DataType.BOOL: torch.bool, DataType.COMPLEX64: torch.complex64, DataType.COMPLEX128: torch.complex128,
    DataType.INT4: torch.int8, DataType.UINT4: torch.uint8, DataType.INT2: torch.int8, DataType.UINT2: torch.uint8,
}  # fmt: skip


def torch_dtype(dtype: DataType | int) -> torch.dtype:
    """The type in which torch computes what ONNX calls ``dtype``.

    Raises:
        UntranslatableError: torch has none (strings, floats of four bits).
    """
    known = DataType(dtype)
    if known not in _DTYPES:
        raise UntranslatableError(f"PyTorch has no type for {known.name.lower()}")
    return _DTYPES[known]


def to_tensor(array: np.ndarray) -> Tensor:
    """A copy of an array as a tensor.

    Raises:
        TypeError: torch has no such type (strings, floats of four bits).
    """
    if array.dtype in _VIEWED:
        bits, dtype = _VIEWED[array.dtype]
        return torch.from_numpy(np.array(array).view(bits)).view(dtype)
    if array.dtype in _WIDENED:
        return torch.from_numpy(array.astype(_WIDENED[array.dtype]))
    return torch.from_numpy(np.array(array))


def to_array(tensor: Tensor) -> np.ndarray:
    """A copy of a tensor as an array of the same type."""
    plain = tensor.detach().cpu().contiguous()
    for dtype, (bits, viewed) in _VIEWED.items():
        if plain.dtype == viewed:
            whole: np.ndarray = plain.view(torch.int16 if bits is np.int16 else torch.uint8).numpy()
            return np.array(whole).view(dtype)
    return np.array(plain.numpy())
