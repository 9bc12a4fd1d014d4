"""Per-position statistics of activations, streamed: constant memory, whatever the number of samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.observation import observe


class AxisMoments:
    """Sums over everything but one axis.

    Args:
        axis: the axis that is kept, counted from the front.

    Attributes:
        count: how many numbers each position has shown.
        absolute: ``(positions,)`` float64, their summed absolute values.
        squares: their summed squares.
        active: how many of them were not zero.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.count = 0
        self.absolute = self.squares = self.active = np.zeros(0)

    def update(self, array: np.ndarray) -> None:
        """Take in one batch."""
        numbers = array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
        others = tuple(axis for axis in range(array.ndim) if axis != self.axis)
        if not self.count:
            self.absolute, self.squares, self.active = np.zeros((3, array.shape[self.axis]))
        self.count += array.size // max(array.shape[self.axis], 1)
        self.absolute += np.abs(numbers).sum(axis=others, dtype=np.float64)
        self.squares += np.square(numbers).sum(axis=others, dtype=np.float64)
        self.active += np.count_nonzero(numbers, axis=others)

    @property
    def norm(self) -> np.ndarray:
        """Root of the mean square at each position."""
        return np.asarray(np.sqrt(self.squares / max(self.count, 1)))


def observe_moments(model: Model, wanted: Mapping[str, int], context: Context) -> dict[str, AxisMoments]:
    """The moments of values by name, each along one of its axes, over the calibration data."""
    moments = {name: AxisMoments(axis) for name, axis in sorted(wanted.items())}
    if moments:
        assert context.calibration is not None
        observe(model, moments, context.calibration, threads=context.threads, progress=context.progress)
    return moments
