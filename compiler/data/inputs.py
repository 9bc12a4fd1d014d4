"""What data is made for: the inputs of a model, and the feeds that go into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from graphpress.errors import DataError

Feed = Mapping[str, np.ndarray]
"""One call's inputs: array by input name, the batch axis included."""

Dims = tuple[int | str | None, ...] | None
"""Extents of an input: an int when static, a name or None when they are free; None where the rank is unknown.
"""


class ModelInput(Protocol):
    """An input of a model: anything with these three fields, such as a session's ``InputSpec``."""

    @property
    def name(self) -> str:
        """Its public name."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Its element type; strings are ``object``."""
        ...

    @property
    def dims(self) -> Dims:
        """Its extents, the batch axis included."""
        ...


def batch_of(feed: Feed) -> int:
    """How many samples a feed holds, as far as its arrays tell."""
    return max((len(array) for array in feed.values() if np.ndim(array) > 0), default=1)


def matches(shape: Sequence[int], dims: Dims) -> bool:
    """Whether an array of this shape can stand where these extents are declared.

    >>> matches((3, 32, 32), (3, None, "W")), matches((3, 32, 32), None)
    (True, True)
    """
    if dims is None:
        return True
    return len(shape) == len(dims) and all(
        extent == dim for extent, dim in zip(shape, dims, strict=True) if isinstance(dim, int)
    )


def sample_dims(dims: Dims) -> Dims:
    """The extents behind the batch axis."""
    return dims and dims[1:]


def describe(dims: Dims) -> str:
    """Extents as people write them.

    >>> describe(("N", 3, None)), describe(None)
    ('[N, 3, ?]', '[...]')
    """
    if dims is None:
        return "[...]"
    return f"[{', '.join('?' if dim is None else str(dim) for dim in dims)}]"


def has_common_batch(inputs: Sequence[ModelInput]) -> bool:
    """Whether the leading axes of all inputs can be one batch axis: all free, or all fixed to the same extent."""
    leading = {item.dims[0] if isinstance(item.dims[0], int) else None for item in inputs if item.dims}
    return len(leading) <= 1


def fixed_batch(inputs: Sequence[ModelInput]) -> int | None:
    """The batch size that the inputs fix, or None where every leading axis is free.

    A model without a common batch axis runs one sample at a time.
    """
    if not has_common_batch(inputs):
        return 1
    return next((item.dims[0] for item in inputs if item.dims and isinstance(item.dims[0], int)), None)


def cast(array: np.ndarray, dtype: np.dtype, where: str) -> np.ndarray:
    """The array in the model's dtype.

    Into floating point every number may go; into integers and booleans only those that survive unchanged.

    Raises:
        DataError: text meets numbers, or a value would change.
    """
    if array.dtype == dtype:
        return array
    if is_text(array.dtype) or is_text(dtype):
        return _cast_text(array, dtype, where)
    if np.iscomplexobj(array) and not np.issubdtype(dtype, np.complexfloating):
        raise DataError(
            "holds complex numbers, the model takes real ones", where=where, fix="give the real part or the modulus"
        )
    with np.errstate(invalid="ignore", over="ignore"):
        converted = array.astype(dtype)
    if is_floating(dtype) or np.array_equal(converted, array):
        return converted
    raise DataError(
        f"values of {array.dtype} do not fit the model's {dtype} unchanged",
        where=where,
        fix="check scale, mean and std, or give integers in range",
    )


def _cast_text(array: np.ndarray, dtype: np.dtype, where: str) -> np.ndarray:
    if is_text(array.dtype) and is_text(dtype):
        return array.astype(object)
    if is_text(array.dtype):
        raise DataError(
            f"holds text, but the model wants {dtype}",
            where=where,
            fix="name a tokenizer with `function: module:function` under preprocess, or pick numeric columns",
        )
    raise DataError(f"holds {array.dtype}, but the model wants text", where=where, fix="give an array of strings")


def to_array(value: Any, where: str) -> np.ndarray:
    """The value as an array.

    Raises:
        DataError: numpy cannot make one of it, as of rows that differ in length.
    """
    try:
        return np.asarray(value)
    except Exception as error:  # tensors of other libraries raise whatever they like
        raise DataError(f"is not an array: {error}", where=where, fix="give numpy arrays") from error


def is_text(dtype: np.dtype) -> bool:
    """Whether the dtype is one of numpy's ways to hold strings."""
    return dtype.kind in "UOST"


def is_floating(dtype: np.dtype) -> bool:
    """Whether the dtype is floating point or complex, the ml_dtypes kinds (bfloat16, float8) included."""
    return dtype.kind in "fcV"
