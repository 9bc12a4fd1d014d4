"""Codebooks: real = table[code] · scale. Entries are numbers or vectors; binary and ternary are the small cases."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

from graphpress.ir.encoding.content import ByContent, grain_label, read_only, scale_fault, scale_misfit
from graphpress.ir.encoding.grids import bits_of

INDEX_TYPES = ("uint2", "uint4", "uint8", "uint16")
_ONE = np.ones((), np.float32)


@dataclass(frozen=True, eq=False)
class CodebookEncoding(ByContent):
    """Indices into a table of reals.

    Args:
        dtype: type of the codes: ``uint2``, ``uint4``, ``uint8`` or ``uint16``.
        table: float32 ``[entries, *vector]``. Entries that are vectors of rank k decode to tiles of the last k axes:
            codes have the shape of the tensor with those axes divided by the vector's.
        scale: float32; a scalar, ``[n]`` for the n indices of ``axis``, or the shape of the blocks.
        axis: the axis along which scales differ; None for one scale a tensor.
        block: elements along ``axis`` that share a scale; 0 for none.
    """

    imported: ClassVar[bool] = False
    derived: ClassVar[bool] = False

    dtype: str
    table: np.ndarray
    scale: np.ndarray = field(default_factory=lambda: _ONE)
    axis: int | None = None
    block: int = 0

    def __post_init__(self) -> None:
        scale = read_only(self.scale, np.float32)
        if self.axis is None and scale.size == 1:
            scale = scale.reshape(())
        object.__setattr__(self, "table", read_only(self.table, np.float32))
        object.__setattr__(self, "scale", scale)

    @property
    def vector(self) -> tuple[int, ...]:
        """Shape of an entry, ``()`` for numbers."""
        return self.table.shape[1:]

    @property
    def bits(self) -> float:
        """Bits of one element."""
        return bits_of(self.dtype) / max(int(np.prod(self.vector)), 1)

    @property
    def grid(self) -> Hashable:
        """What decides which reals the codes decode to."""
        return self.content

    @property
    def label(self) -> str:
        """A short name: shape of the table, type of the codes, axis and block of the scales."""
        return f"codebook{'x'.join(map(str, self.table.shape))}-{self.dtype}{grain_label(self.axis, self.block)}"

    def indivisible_axes(self, rank: int) -> tuple[int, ...]:
        """Axes along which single positions cannot go: blocks, or vectors, lie there."""
        blocks = {self.axis % rank} if self.block and self.axis is not None else set()
        return tuple(sorted(blocks | set(range(rank - len(self.vector), rank))))

    @cached_property
    def fault(self) -> str | None:
        """Why the encoding is unsound; None where it is sound."""
        if self.dtype not in INDEX_TYPES:
            return f"has indices of the unknown type {self.dtype!r}"
        if not self.table.ndim or not self.table.size or len(self.table) > 2 ** bits_of(self.dtype):
            return f"has a table of shape {list(self.table.shape)} for indices of type {self.dtype}"
        if not np.isfinite(self.table).all():
            return "has a table with an entry that is no number"
        return scale_fault(self.scale, self.axis, self.block)

    def misfit(self, dims: tuple[int | None, ...]) -> str | None:
        """Why a tensor with these dimensions (None for open ones) cannot be read in it; None where it can."""
        tail = dims[max(len(dims) - len(self.vector), 0) :]
        tiled = len(tail) == len(self.vector) and all(
            size is None or size % part == 0 for size, part in zip(tail, self.vector, strict=True)
        )
        if not tiled:
            return f"has entries of shape {list(self.vector)}, which do not tile the last axes of the tensor"
        return scale_misfit(self.scale.shape, self.axis, self.block, dims)


def binary_encoding(scale: np.ndarray, axis: int | None = None) -> CodebookEncoding:
    """Signs times a scale: code 0 decodes to -scale, 1 to +scale."""
    return CodebookEncoding("uint2", np.array([-1.0, 1.0]), scale, axis)


def ternary_encoding(scale: np.ndarray, axis: int | None = None) -> CodebookEncoding:
    """Signs and zero times a scale: codes 0, 1, 2 decode to -scale, 0, +scale."""
    return CodebookEncoding("uint2", np.array([-1.0, 0.0, 1.0]), scale, axis)
