"""What the target of a Reshape means: 0 copies a size (unless ``allowzero``), -1 takes what is left."""

from __future__ import annotations

import math
from collections.abc import Sequence


def resolve_target(shape: Sequence[int], target: Sequence[int], allow_zero: bool) -> tuple[int, ...]:
    """The shape that reshaping a tensor of ``shape`` to ``target`` gives.

    Raises:
        ValueError: the target does not fit.

    >>> resolve_target((2, 3, 4), (0, -1), False)
    (2, 12)
    """
    sizes = [
        shape[axis] if size == 0 and not allow_zero and axis < len(shape) else size for axis, size in enumerate(target)
    ]
    total = math.prod(shape)
    if sizes.count(-1) > 1:
        raise ValueError("more than one size of -1")
    if -1 in sizes:
        rest = math.prod(size for size in sizes if size != -1)
        if rest == 0 or total % rest:
            raise ValueError("the size of -1 is undefined")
        sizes[sizes.index(-1)] = total // rest
    if math.prod(sizes) != total:
        raise ValueError("the number of elements changes")
    return tuple(sizes)
