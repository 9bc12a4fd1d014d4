"""The number formats in which codes are stored: integers of two to 32 bits, and 8-bit floats."""

from __future__ import annotations

from typing import Final

import ml_dtypes
import numpy as np

from graphpress.ir.types import DataType

FLOAT8: Final = "float8e4m3fn"

_EXTENSIONS: Final = {
    "bfloat16": ml_dtypes.bfloat16,
    "int4": ml_dtypes.int4,
    "uint4": ml_dtypes.uint4,
    "int2": ml_dtypes.int2,
    "uint2": ml_dtypes.uint2,
    FLOAT8: ml_dtypes.float8_e4m3fn,
}
INTEGERS: Final = (
    "int2", "uint2", "int4", "uint4", "int8", "uint8", "int16", "uint16", "int32",
)  # fmt: skip
"""Integer types of codes, by their ONNX names in lower case."""


def integer_bounds(dtype: str) -> tuple[int, int]:
    """Smallest and largest number of an ONNX integer type, or of an 8-bit float (which are integers too).

    >>> integer_bounds("int4"), integer_bounds("uint8"), integer_bounds("float8e4m3fn")
    ((-8, 7), (0, 255), (-448, 448))
    """
    if dtype == FLOAT8:
        return -448, 448
    bits = int(dtype.lstrip("uint"))
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def integer_dtype(name: str) -> np.dtype:
    """The numpy dtype of codes by its ONNX name, those that numpy itself does not have included."""
    dtype: np.dtype = np.dtype(_EXTENSIONS.get(name, name))
    return dtype


def data_type(name: str) -> DataType:
    """The tensor type of codes by its ONNX name."""
    return DataType[name.upper()]


def bits_of(dtype: str) -> int:
    """Bits of one code, by the ONNX name of its type in lower case."""
    return int(data_type(dtype).bitwidth)
