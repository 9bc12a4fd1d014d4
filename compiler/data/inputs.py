"""What data is made for: the inputs of a model, and the feeds that go into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from graphpress.errors import DataError

Feed = Mapping[str, np.ndarray]
"""One call's inputs: array by input name, the batch axis included."""

Dims = tuple[int | str | None, ...] | None
"""Extents of an input: an int when static, a name or None when they are free; None where the rank is unknown.
"""


Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each array of a feed, by input name."""


class ModelInput(Protocol):
    """An input of a model: anything with these three fields, such as a session's ``InputSpec``.

    One that has a field ``batched`` says there whether its first axis can count samples at all.
    """

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


def sample_count(feed: Feed, inputs: Sequence[ModelInput]) -> int:
    """How many samples a feed of these inputs holds: one where their first axes count something else."""
    return batch_of(feed) if has_common_batch(inputs) else 1


def shapes_of(feed: Feed) -> dict[str, tuple[int, ...]]:
    """The shapes of a feed."""
    return {name: np.shape(array) for name, array in feed.items()}


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
    """Whether the leading axes of all inputs can be one batch axis: all free, or all fixed to the same extent.

    A size that is also that of a later axis counts something else, steps in time say; and so does a leading one of
    another name, where a later axis of the same input is called the batch.

    >>> from graphpress.runtime import InputSpec
    >>> x, ids = (InputSpec("x", np.dtype("f4"), dims) for dims in (("T", "N", 40), ("N",)))
    >>> has_common_batch([x]), has_common_batch([x, ids])
    (True, False)
    """
    leading = {item.dims[0] if isinstance(item.dims[0], int) else None for item in inputs if item.dims}
    batched = all(getattr(item, "batched", True) for item in inputs)
    return batched and len(leading) <= 1 and not misplaced_batches(item.dims for item in inputs)


def has_open_batch(inputs: Sequence[ModelInput]) -> bool:
    """Whether feeds can be cut along a batch axis that every input has and leaves open."""
    return has_common_batch(inputs) and all(item.dims and not isinstance(item.dims[0], int) for item in inputs)


def misplaced_batches(inputs: Iterable[Dims]) -> set[int | str | None]:
    """Names of sizes of leading axes that count no samples, as far as the names of other axes tell."""
    every = [dims for dims in inputs if dims]
    later = {dim for dims in every for dim in dims[1:] if isinstance(dim, str)}
    return {dims[0] for dims in every if isinstance(dims[0], str) and (dims[0] in later or _names_batch(dims[1:]))}


def _names_batch(dims: Iterable[int | str | None]) -> bool:
    return any(isinstance(dim, str) and "batch" in dim.lower() for dim in dims)


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
