"""What is left of a value when channels were removed."""

from __future__ import annotations

import numpy as np

from graphpress.coupling.kept import Kept


def restrict(array: np.ndarray, kept: Kept | None) -> np.ndarray:
    """The positions that are still there, axis by axis.

    Args:
        array: the value as it was.
        kept: the kept positions of each axis, None for an axis that is whole; None where nothing was removed.
    """
    for axis, positions in enumerate(kept or ()):
        if positions is not None:
            array = np.take(array, positions, axis=axis)
    return array
