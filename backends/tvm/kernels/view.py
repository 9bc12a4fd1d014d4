"""Where the elements of a tensor lie in memory, by axis."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.backends.tvm.codegen.vectors import FLOAT


@dataclass(frozen=True)
class StridedView:
    """Where the elements of a tensor lie.

    Args:
        start: offset of the first element; open behind what is (``Extent``), of what ``ViewCopy`` reads and writes.
        steps: from one element to the next, by axis.
        size: elements of the memory that an image takes.
        dtype: type of the elements, by numpy's name.
        zero_point: of codes.
    """

    start: int
    steps: tuple[int, ...]
    size: int
    dtype: str = FLOAT
    zero_point: int = 0
