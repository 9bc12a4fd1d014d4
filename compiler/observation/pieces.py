"""Data that can be read again and again: so many samples, in pieces of bounded size, the same each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from graphpress.analysis.leading_axes import fed_inputs
from graphpress.data import Feed, Samples
from graphpress.data.inputs import has_open_batch, sample_count
from graphpress.errors import DataError
from graphpress.ir import Model
from graphpress.observation.stream import MAX_AT_A_TIME, ChunkSize, pieces
from graphpress.runtime import InputSpec


@dataclass(frozen=True)
class Pieces:
    """At most so many samples of the data, in pieces of bounded size, the same each time.

    Args:
        feeds: iterable any number of times.
        samples: how many of them are used.
        inputs: what the model says of its inputs.
    """

    feeds: Iterable[Feed]
    samples: int
    inputs: tuple[InputSpec, ...]

    @classmethod
    def of(cls, model: Model, feeds: Iterable[Feed], most: int) -> Pieces:
        """Up to ``most`` samples, evenly spread over the data where it can do that.

        Raises:
            DataError: there are none.
        """
        inputs = fed_inputs(model)
        if isinstance(feeds, Samples):
            feeds = feeds.spread(most)
            samples = feeds.count
        else:
            samples = min(most, sum(sample_count(feed, inputs) for feed in feeds))
        if not samples:
            raise DataError("the calibration data is empty", where="calibration", fix="give at least one sample")
        return cls(feeds, samples, inputs)

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        left, step = self.samples, ChunkSize(MAX_AT_A_TIME)
        for feed in self.feeds:
            for piece in pieces(feed, self.inputs, step):
                if left <= 0:
                    return
                count = sample_count(piece, self.inputs)
                whole = left >= count or not self._is_open
                yield piece if whole else {name: array[:left] for name, array in piece.items()}
                left -= count

    @property
    def _is_open(self) -> bool:
        return has_open_batch(self.inputs)
