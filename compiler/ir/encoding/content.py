"""What the kinds of encodings have in common: immutable, compared by content, numbers in read-only arrays.

A model may hold hundreds of thousands of scales: equality looks at the object first, then at a digest that is computed
once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

_SHORT = 64
"""Bytes up to which an array is compared by its bytes rather than by their digest."""


@dataclass(frozen=True, eq=False)
class ByContent:
    """Equal when of one class and of one content; cheap for the same object and after the first comparison."""

    @cached_property
    def content(self) -> Hashable:
        """Everything that makes the encoding what it is."""
        return tuple(content_of(getattr(self, field.name)) for field in fields(self))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, ByContent) and type(self) is type(other) and self.content == other.content
        )

    def __hash__(self) -> int:
        return hash(self.content)


def content_of(field: object) -> Hashable:
    """A field as something small to compare and hash."""
    if not isinstance(field, np.ndarray):
        assert isinstance(field, Hashable)
        return field
    if not any(field.strides):  # one number, repeated
        return field.shape, field.reshape(-1)[:1].tobytes()
    if field.nbytes <= _SHORT:
        return field.shape, field.tobytes()
    return field.shape, hashlib.blake2b(np.ascontiguousarray(field).reshape(-1).view(np.uint8).data).digest()


def read_only(array: np.ndarray, dtype: type) -> np.ndarray:
    """The array in this type, as a read-only one."""
    typed: np.ndarray = np.asarray(array, dtype, order="C")
    if typed.flags.writeable:
        typed = typed.copy()
        typed.flags.writeable = False
    return typed


# -- scales ---------------------------------------------------------------------------------------------------


def grain_label(axis: int | None, block: int) -> str:
    """The axis and block of scales, as short names of encodings end."""
    return "" if axis is None else f"/{axis}" + (f"x{block}" if block else "")


def scale_fault(scale: np.ndarray, axis: int | None, block: int) -> str | None:
    """Why the scales are unsound for this axis and block; None where they are sound."""
    if block < 0 or (block and axis is None):
        return f"has blocks of {block} along axis {axis}"
    rank = scale.ndim
    expected = rank >= 1 if block else rank == (0 if axis is None else 1)
    if not expected or not scale.size:
        return f"has scales of shape {list(scale.shape)} for {_grain(axis, block)}"
    if not (np.isfinite(scale) & (scale > 0)).all():
        return "has a scale that is no positive number"
    return None


def _grain(axis: int | None, block: int) -> str:
    if axis is None:
        return "the whole tensor"
    return f"blocks of {block} along axis {axis}" if block else f"axis {axis}"


def scale_misfit(shape: tuple[int, ...], axis: int | None, block: int, dims: tuple[int | None, ...]) -> str | None:
    """Why scales of this shape are not those of a tensor with these dimensions (None for those that are open)."""
    if axis is None:
        return None
    if not -len(dims) <= axis < len(dims):
        return f"has scales along axis {axis}, and the tensor has {len(dims)} axes"
    needed = _blocks(dims, axis, block) if block else (dims[axis],)
    same = len(shape) == len(needed) and all(size in (own, None) for own, size in zip(shape, needed, strict=True))
    if same:
        return None
    return f"has scales of shape {list(shape)} where {_grain(axis, block)} of {_dims(dims)} needs {_dims(needed)}"


def _blocks(dims: tuple[int | None, ...], axis: int, block: int) -> tuple[int | None, ...]:
    blocks, size = list(dims), dims[axis]
    blocks[axis] = None if size is None else -(-size // block)
    return tuple(blocks)


def _dims(dims: tuple[int | None, ...]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in dims)}]"
