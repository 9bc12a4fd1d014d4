"""Tensors of a message: whether they hold as many elements as their shape has, and dense ones for sparse ones."""

from __future__ import annotations

import math
import re

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphpress.errors import ModelError
from graphpress.ir.types import DataType

CHECKER = "check it with onnx.checker.check_model"
"""What to do about a malformed model."""
MAX_DENSE_BYTES = 1 << 30
_NUMBER = re.compile("[0-9]{1,19}")
ELEMENT_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


def dense(sparse: onnx.SparseTensorProto, where: str) -> TensorProto:
    """The dense tensor of the same elements.

    Raises:
        ModelError: it would be too large, or its indices are not those of its shape.
    """
    place = f"{where}, sparse tensor {sparse.values.name!r}"
    if TensorProto.EXTERNAL in (sparse.values.data_location, sparse.indices.data_location):
        raise ModelError("is sparse and stored outside the file", where=place, fix="store it dense")
    for tensor in (sparse.values, sparse.indices):
        check_contents(tensor, place)
    dims = tuple(sparse.dims)
    try:
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        if values.itemsize * math.prod(dims) > MAX_DENSE_BYTES:
            raise ModelError(
                f"would take over {MAX_DENSE_BYTES} bytes when dense",
                where=place,
                fix="store it dense, or keep it out of the graph",
            )
        flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dims)
        if flat.size and flat.min() < 0:
            raise IndexError("negative index")
        full = np.full(dims, "", object) if values.dtype == object else np.zeros(dims, values.dtype)
        full.reshape(-1)[flat] = values
    except (ValueError, IndexError, TypeError) as error:
        raise ModelError(f"is malformed ({error})", where=place, fix=CHECKER) from error
    return numpy_helper.from_array(full, sparse.values.name)


def check_contents(tensor: TensorProto, where: str) -> None:
    """Check that the tensor has as many elements as its shape; later readers rely on it.

    Raises:
        ModelError: it has not, or its type, shape or place in a file is impossible.
    """
    if tensor.data_type not in ELEMENT_TYPES:
        raise ModelError(f"has the unknown element type {tensor.data_type}", where=where, fix=CHECKER)
    if tensor.HasField("segment"):
        raise ModelError("is stored in segments, which nothing reads", where=where, fix="export the model again")
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"has the impossible shape {list(tensor.dims)}", where=where, fix=CHECKER)
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_place(tensor, where)
        return
    expected, actual = _expected_and_found(tensor)
    if expected != actual:
        raise ModelError(
            f"holds {actual} bytes or elements where its shape {list(tensor.dims)} needs {expected}",
            where=where,
            fix="export the model again; the file may be damaged",
        )


def _check_place(tensor: TensorProto, where: str) -> None:
    """Whether external data has a file, and an offset and length that are numbers."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    numbers = [entries.get(key, "0") for key in ("offset", "length")]
    if not entries.get("location") or not all(_NUMBER.fullmatch(number) for number in numbers):
        raise ModelError(f"its external data has no possible place: {entries}"[:300], where=where, fix=CHECKER)


def _expected_and_found(tensor: TensorProto) -> tuple[int, int]:
    count = math.prod(tensor.dims)
    if tensor.data_type == TensorProto.STRING:
        return count, len(tensor.string_data)
    bits = DataType(tensor.data_type).bitwidth
    if tensor.HasField("raw_data"):
        return math.ceil(count * bits / 8), len(tensor.raw_data)
    field = getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))
    if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return 2 * count, len(field)
    return (count if bits >= 6 else math.ceil(count * bits / 8)), len(field)
