"""Affine quantization: real = (code − zero-point) · scale, per tensor, along an axis or in blocks; or dynamic."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from graphpress.ir.encoding.content import ByContent, content_of, grain_label, read_only, scale_fault, scale_misfit
from graphpress.ir.encoding.grids import FLOAT8, INTEGERS, bits_of, integer_bounds

_ZERO = np.zeros((), np.int32)


@dataclass(frozen=True, eq=False)
class AffineEncoding(ByContent):
    """Affine quantization.

    Args:
        dtype: type of the codes, by its ONNX name in lower case: integers (``int8``, ``uint4``, ``int32``, …) or
            ``float8e4m3fn``, whose zero-point is 0.
        scale: float32; a scalar, ``[n]`` for the n indices of ``axis``, or the shape of the blocks.
        zero_point: int32 of the same shape; a scalar serves all scales.
        axis: the axis along which scales differ; None for one scale a tensor.
        block: elements along ``axis`` that share a scale; 0 for none.
        imported: came as Q/DQ nodes with the model; materialized as it came.
        derived: the scale follows from others (a bias: input scale times weight scale).
    """

    dtype: str
    scale: np.ndarray
    zero_point: np.ndarray = field(default_factory=lambda: _ZERO)
    axis: int | None = None
    block: int = 0
    imported: bool = False
    derived: bool = False

    def __post_init__(self) -> None:
        scale = read_only(self.scale, np.float32)
        if self.axis is None and scale.size == 1:
            scale = scale.reshape(())
        zero = read_only(self.zero_point, np.int32)
        if zero.size and zero.size in (1, scale.size) and np.all(zero == zero.flat[0]):
            zero = np.broadcast_to(zero.flat[0], scale.shape)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", zero)

    @property
    def is_dynamic(self) -> bool:
        """Whether it has no numbers: the range is found at run time."""
        return self.scale.size == 0

    @property
    def bits(self) -> float:
        """Bits of one element."""
        return bits_of(self.dtype)

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return integer_bounds(self.dtype)

    @property
    def representable(self) -> tuple[float, float]:
        """Smallest and largest real number that a per-tensor encoding can hold."""
        low, high = self.bounds
        scale, zero = float(self.scale), int(self.zero_point)
        return (low - zero) * scale, (high - zero) * scale

    @cached_property
    def grid(self) -> Hashable:
        """What decides which reals the codes decode to; where it came from does not."""
        return tuple(map(content_of, (self.dtype, self.scale, self.zero_point, self.axis, self.block)))

    @property
    def label(self) -> str:
        """A short name: type, and the axis and block of the scales."""
        return f"{'dynamic-' if self.is_dynamic else ''}{self.dtype}{grain_label(self.axis, self.block)}"

    def indivisible_axes(self, rank: int) -> tuple[int, ...]:
        """Axes along which single positions cannot go: blocks of elements lie there."""
        return (self.axis % rank,) if self.block and self.axis is not None else ()

    @cached_property
    def fault(self) -> str | None:
        """Why the encoding is unsound; None where it is sound."""
        if self.dtype not in (*INTEGERS, FLOAT8):
            return f"has codes of the unknown type {self.dtype!r}"
        if self.zero_point.shape != self.scale.shape:
            return f"has scales of shape {list(self.scale.shape)} and zero-points of {list(self.zero_point.shape)}"
        if self.is_dynamic:
            return f"is dynamic, and has blocks of {self.block}" if self.block else None
        return scale_fault(self.scale, self.axis, self.block) or self._zero_point_fault()

    def _zero_point_fault(self) -> str | None:
        low, high = (0, 0) if self.dtype == FLOAT8 else self.bounds
        inside = low <= self.zero_point.min() and self.zero_point.max() <= high
        return None if inside else f"has a zero-point outside {low} to {high}"

    def misfit(self, dims: tuple[int | None, ...]) -> str | None:
        """Why a tensor with these dimensions (None for open ones) cannot be read in it; None where it can."""
        if self.is_dynamic:
            known = self.axis is None or -len(dims) <= self.axis < len(dims)
            return None if known else f"has ranges along axis {self.axis}, and the tensor has {len(dims)} axes"
        return scale_misfit(self.scale.shape, self.axis, self.block, dims)


def dynamic_encoding(dtype: str, axis: int | None = None) -> AffineEncoding:
    """An affine encoding without numbers, whose range is found at run time.

    Args:
        dtype: type of the codes.
        axis: the axis along which ranges differ (such as tokens); None for one range a tensor.
    """
    return AffineEncoding(dtype, np.zeros(0, np.float32), np.zeros(0, np.int32), axis)
