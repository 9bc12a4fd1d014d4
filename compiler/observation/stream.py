"""The streaming runner: run the graph over the data, hand each requested tensor to its observer, keep nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.analysis.leading_axes import fed_inputs
from graphpress.analysis.shapes import concrete_shapes
from graphpress.data import Feed
from graphpress.data.inputs import has_open_batch, sample_count
from graphpress.errors import DataError
from graphpress.ir import Model, TensorProtocol
from graphpress.observation.observers import Observer
from graphpress.progress import Progress, Silent
from graphpress.runtime import InputSpec, Session

MAX_AT_A_TIME = 32
MEMORY_BUDGET = 256 << 20
"""Bytes of requested tensors alive at a time, as long as one of a single sample fits: fewer samples are run together,
and beyond that the model is run more often, for some of the tensors each time.
"""


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
    cut so that the requested tensors stay within ``MEMORY_BUDGET``, whatever batch size the feeds come in; where those
    of a single sample are too large together, the model runs several times, for some of them each time.

    Returns:
        The number of samples seen.

    Raises:
        DataError: there are no feeds, or they do not fit the model.
    """
    seen = 0
    for group in _groups(model, observers, feeds):
        seen = _observe(model, group, feeds, threads, progress or Silent())
    if not seen:
        raise DataError("the calibration data is empty", where="calibration", fix="give at least one sample")
    return seen


def _observe(
    model: Model, observers: Mapping[str, Observer], feeds: Iterable[Feed], threads: int, progress: Progress
) -> int:
    """Show the values to their observers, all at a time; returns the number of samples."""
    inputs = {value.name for value in model.graph.inputs}
    defaults = {name: constant.numpy() for name, constant in _defaults(model) if name in observers}
    wanted = [name for name in observers if name not in inputs]
    session = Session(model, threads=threads, optimization="basic", extra_outputs=wanted, arena=False)
    fed, seen, step = fed_inputs(model), 0, ChunkSize()
    for feed in progress.track(feeds, "observing"):
        for piece in pieces(feed, fed, step):
            count = sample_count(piece, fed)
            size = _show({**defaults, **piece, **session.run(piece)}, observers)
            seen += count
            step.fit(size / max(count, 1))
    return seen


def _show(tensors: Mapping[str, np.ndarray], observers: Mapping[str, Observer]) -> int:
    """Update the observers; returns how many bytes they saw. The tensors are gone before the model runs again."""
    for name, observer in observers.items():
        observer.update(tensors[name])
    return sum(tensors[name].nbytes for name in observers)


def _groups(model: Model, observers: Mapping[str, Observer], feeds: Iterable[Feed]) -> Iterator[Mapping[str, Observer]]:
    """The observers by values that fit into memory together: the model runs once for each group.

    Data that can be read only once, and values whose size is not known, leave no choice.
    """
    first = None if isinstance(feeds, Iterator) else next(iter(feeds), None)
    sizes = {} if first is None else _bytes_of_a_sample(model, first)
    group, total = dict[str, Observer](), 0
    for name, observer in observers.items():
        size = sizes.get(name, 0)
        if group and total + size > MEMORY_BUDGET:
            yield group
            group, total = {}, 0
        group[name] = observer
        total += size
    yield group


def _bytes_of_a_sample(model: Model, feed: Feed) -> dict[str, int]:
    """The size of each value in float32, as far as its shape is known, for one sample of the feed."""
    piece = next(pieces(feed, fed_inputs(model), ChunkSize()), {})
    shapes = concrete_shapes(model, {name: np.shape(array) for name, array in piece.items()})
    return {name: 4 * math.prod(dims) for name, dims in shapes.items()}


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
