"""Plain casts: real = code, rounded to another float type."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from graphpress.ir.encoding.content import ByContent
from graphpress.ir.encoding.grids import FLOAT8, bits_of

CAST_TYPES = ("float16", "bfloat16", FLOAT8)


@dataclass(frozen=True, eq=False)
class CastEncoding(ByContent):
    """Rounding to another float type.

    Args:
        dtype: ``float16``, ``bfloat16`` or ``float8e4m3fn``.
    """

    imported: ClassVar[bool] = False
    derived: ClassVar[bool] = False
    axis: ClassVar[int | None] = None
    block: ClassVar[int] = 0

    dtype: str

    @property
    def bits(self) -> float:
        """Bits of one element."""
        return bits_of(self.dtype)

    @property
    def grid(self) -> Hashable:
        """What decides which reals the codes decode to."""
        return self.content

    @property
    def label(self) -> str:
        """A short name."""
        return f"cast-{self.dtype}"

    def indivisible_axes(self, rank: int) -> tuple[int, ...]:
        """None: every element is rounded by itself."""
        return ()

    @property
    def fault(self) -> str | None:
        """Why the encoding is unsound; None where it is sound."""
        return None if self.dtype in CAST_TYPES else f"rounds to the unknown type {self.dtype!r}"

    def misfit(self, dims: tuple[int | None, ...]) -> str | None:
        """None: every tensor can be read in it."""
        return None
