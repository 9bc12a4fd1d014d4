"""Data that can be read again and again: so many samples, in pieces of bounded size, the same each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from graphpress.data import Feed, Samples, batch_of
from graphpress.errors import DataError
from graphpress.ir import Model, dims_of
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
        if isinstance(feeds, Samples):
            feeds = feeds.spread(most)
            samples = feeds.count
        else:
            samples = min(most, sum(batch_of(feed) for feed in feeds))
        if not samples:
            raise DataError("the calibration data is empty", where="calibration", fix="give at least one sample")
        inputs = [InputSpec(value.name or "", np.dtype(object), dims_of(value)) for value in model.graph.inputs]
        return cls(feeds, samples, tuple(inputs))

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        left, step = self.samples, ChunkSize(MAX_AT_A_TIME)
        for feed in self.feeds:
            for piece in pieces(feed, self.inputs, step):
                if left <= 0:
                    return
                count = batch_of(piece)
                whole = left >= count or not self._is_open
                yield piece if whole else {name: array[:left] for name, array in piece.items()}
                left -= count

    @property
    def _is_open(self) -> bool:
        return all(spec.dims and spec.dims[0] is None for spec in self.inputs)
