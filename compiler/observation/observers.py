"""What is remembered of a stream of tensors: constant memory, whatever the number of samples."""

from __future__ import annotations

from typing import Protocol

import numpy as np

BINS = 8192
MAX_ELEMENTS_BINNED = 1 << 18
"""A histogram looks at fewer than twice this many elements of one update, evenly spaced; extrema look at all."""
ENOUGH_BINNED = 1 << 20
"""Elements after which it looks at fewer an update: its shape is known, and looking takes as long as running."""
MAX_ELEMENTS_BINNED_LATER = 1 << 15


class Observer(Protocol):
    """Sees each batch of one tensor (or of several that share a range) once."""

    def update(self, array: np.ndarray) -> None:
        """Take in one batch."""
        ...


class MinMaxObserver:
    """The extrema of everything seen."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def update(self, array: np.ndarray) -> None:
        """Take in one batch; NaN propagates, so that the caller can refuse it."""
        if array.size:
            self.low = float(np.minimum(self.low, array.min()))
            self.high = float(np.maximum(self.high, array.max()))


class HistogramObserver(MinMaxObserver):
    """Extrema and a histogram over [-r, r], where r is a power of two that doubles as larger values come.

    Doubling merges bins in pairs, so that nothing already counted is lost and one pass suffices. An element that is
    looked at counts for all that it stands for, so that each sample has the same weight.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = np.zeros(BINS, np.int64)
        self.radius = 0.0
        self.binned = 0

    def update(self, array: np.ndarray) -> None:
        """Take in one batch."""
        super().update(array)
        flat = array.reshape(-1)
        most = MAX_ELEMENTS_BINNED if self.binned < ENOUGH_BINNED else MAX_ELEMENTS_BINNED_LATER
        step = max(1, flat.size // most)
        flat = np.ascontiguousarray(flat[::step])
        self.binned += flat.size
        largest = float(np.abs(flat).max(initial=0.0))
        if not np.isfinite(largest) or largest == 0.0:
            self.counts[BINS // 2] += flat.size * step if largest == 0.0 else 0
            return
        self._reach(largest)
        index = (flat.astype(np.float64) * (0.5 * BINS / self.radius) + BINS // 2).astype(np.int64)
        self.counts += np.bincount(np.minimum(index, BINS - 1), minlength=BINS) * step

    @property
    def centers(self) -> np.ndarray:
        """The middle of each bin."""
        width = 2 * (self.radius or 1.0) / BINS
        return (np.arange(BINS) + 0.5) * width - (self.radius or 1.0)

    def percentile_range(self, percentile: float) -> tuple[float, float]:
        """The range that leaves out (100 - percentile) % of the values at each end, never wider than the extrema."""
        total = self.counts.sum()
        if not total or not self.radius:
            return self.low, self.high
        cumulative = np.cumsum(self.counts) / total
        tail = 1 - percentile / 100
        edges = np.linspace(-self.radius, self.radius, BINS + 1)
        low = edges[int(np.searchsorted(cumulative, tail, side="right"))]
        high = edges[int(np.searchsorted(cumulative, 1 - tail, side="left")) + 1]
        return max(self.low, float(low)), min(self.high, float(high))

    def _reach(self, largest: float) -> None:
        radius = 2.0 ** np.ceil(np.log2(largest * (1 + 1e-6)))
        if not self.radius:
            self.radius = float(radius)
        while self.radius < radius:
            middle = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : 3 * BINS // 4] = middle
            self.radius *= 2
