"""The streaming runner: run the graph over the data, hand each requested tensor to its observer, keep nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.analysis.leading_axes import fed_inputs
from graphpress.data import Feed
from graphpress.data.inputs import has_open_batch, sample_count
from graphpress.errors import DataError
from graphpress.ir import Model, TensorProtocol
from graphpress.observation.observers import Observer
from graphpress.progress import Progress, Silent
from graphpress.runtime import InputSpec, Session

MAX_AT_A_TIME = 32
MEMORY_BUDGET = 256 << 20
"""Bytes of requested tensors alive at a time, as long as a single sample fits."""


def observe(
    model: Model,
    observers: Mapping[str, Observer],
    feeds: Iterable[Feed],
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> int:
    """Run the model over the feeds and show each named value to its observer.

    Inputs and outputs of the model can be named too; of an input that is not fed, its default is shown. Batches are
    cut so that the requested tensors stay within ``MEMORY_BUDGET``, whatever batch size the feeds come in.

    Returns:
        The number of samples seen.

    Raises:
        DataError: there are no feeds, or they do not fit the model.
    """
    inputs = {value.name for value in model.graph.inputs}
    defaults = {name: constant.numpy() for name, constant in _defaults(model) if name in observers}
    session = Session(
        model, threads=threads, optimization="basic", extra_outputs=[name for name in observers if name not in inputs]
    )
    fed, seen, step = fed_inputs(model), 0, ChunkSize()
    for feed in (progress or Silent()).track(feeds, "observing"):
        for piece in pieces(feed, fed, step):
            tensors = {**defaults, **piece, **session.run(piece)}
            for name, observer in observers.items():
                observer.update(tensors[name])
            count = sample_count(piece, fed)
            seen += count
            step.fit(sum(tensors[name].nbytes for name in observers) / max(count, 1))
    if not seen:
        raise DataError("the calibration data is empty", where="calibration", fix="give at least one sample")
    return seen


def _defaults(model: Model) -> Iterator[tuple[str, TensorProtocol]]:
    """Name and contents of every input that has a default."""
    for value in model.graph.inputs:
        if value.name and value.const_value is not None:
            yield value.name, value.const_value


@dataclass
class ChunkSize:
    """How many samples to run at a time, as the last ones showed."""

    size: int = 1

    def fit(self, bytes_per_sample: float) -> None:
        """Keep within the memory budget."""
        self.size = int(np.clip(MEMORY_BUDGET // max(bytes_per_sample, 1), 1, MAX_AT_A_TIME))


def pieces(feed: Feed, inputs: Sequence[InputSpec], step: ChunkSize) -> Iterator[dict[str, np.ndarray]]:
    """Cut a feed along the batch axis where the model leaves it open, else pass it whole."""
    count = sample_count(feed, inputs)
    open_batch = has_open_batch([spec for spec in inputs if spec.name in feed]) and all(
        np.shape(array)[:1] == (count,) for array in feed.values()
    )
    start = 0
    while start < count:
        size = step.size if open_batch else count
        yield {name: array[start : start + size] if open_batch else array for name, array in feed.items()}
        start += size
