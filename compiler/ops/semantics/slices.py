"""Positions along one axis: what Slice takes, what Pad adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from graphpress.ir import normalize_axis

Size = TypeVar("Size")
"""A number, or what stands for one that is computed at run time."""


def sliced(start: int, end: int, step: int, size: int) -> slice:
    """What Slice takes of an axis, as Python indexes it: bounds count from the end where negative, and are clamped."""
    lowest, highest = (0, size) if step > 0 else (-1, size - 1)
    first = min(max(start + size if start < 0 else start, 0), highest)
    last = min(max(end + size if end < 0 else end, lowest), highest)
    return slice(first, None if last < 0 else last, step)


def padded(pads: Sequence[Size], axes: Sequence[int] | None, rank: int) -> dict[int, tuple[Size, Size]]:
    """What Pad adds before and after an axis, by axis counted from the front.

    Args:
        pads: before each axis, then after each.
        axes: which axes those are; None for all.
        rank: of the operand.

    Raises:
        AxisError: there is no such axis.
        ValueError: there are not two numbers an axis.
    """
    chosen = range(rank) if axes is None else [normalize_axis(axis, rank) for axis in axes]
    half = len(chosen)
    return {axis: (before, after) for axis, before, after in zip(chosen, pads[:half], pads[half:], strict=True)}
