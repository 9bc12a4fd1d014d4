"""Training data: samples in memory up to a bound, else streamed past a shuffle buffer.

Which samples make a batch is a function of the seed and of the step alone, so that a training that was interrupted
goes on with the batches it would have had. Samples of equal shapes make a batch; where the model fixes its batch size,
a batch is handed over in parts of that size, and where its inputs have no common batch axis, feed by feed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from graphpress.errors import DataError, UsageError

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Example:
    """Samples that go through the model in one call.

    Args:
        feed: arrays by input, the batch axis included.
        labels: ``[count, ...]``, or None.
        count: how many samples.
        rows: which samples of the data these are, where they lie in memory.
        targets: what the outputs are compared with, by name.
    """

    feed: Arrays
    labels: np.ndarray | None
    count: int
    rows: np.ndarray | None = None
    targets: Arrays = field(default_factory=dict)


class TrainingData(Protocol):
    """Samples to train on, and a few that are held out."""

    count: int
    holds_out: bool
    """Whether any are held out: with very few, those that are trained on are measured."""

    def batch(self, step: int) -> list[Example]:
        """The samples of a step: one example, or several that together are the batch."""
        ...

    def held_out(self) -> Iterator[Example]:
        """The samples that are not trained on, in the same order every time."""
        ...

    def in_order(self) -> Iterator[Example]:
        """Every sample once, in its place; none where they are not kept."""
        ...


@dataclass(frozen=True)
class ReadOptions:
    """How samples are read.

    Args:
        batch_size: samples of a step.
        call_size: samples of a call where the model fixes it, else None.
        holdout: share of the samples that is held out.
        most_held_out: at most this many.
        seed: of the order.
        most_bytes: samples that take more are streamed. What is free at the moment is not asked: the order of the
            samples would depend on it.
    """

    batch_size: int
    call_size: int | None = None
    holdout: float = 0.1
    most_held_out: int = 1024
    seed: int = 0
    most_bytes: int = 2 << 30

    def held_out(self, count: int) -> int:
        """How many of the samples are held out: none where they would be too few to measure a loss on."""
        return min(int(count * self.holdout), self.most_held_out)


Feeds = Callable[[], Iterable[tuple[Arrays, np.ndarray | None, int]]]
"""Reads the data anew: feeds, labels of their samples or None, and how many samples they hold. A count of 0 means that
the feed as a whole is one sample."""


def open_data(feeds: Feeds, reading: ReadOptions) -> TrainingData:
    """Read the samples into memory, or find that they must be streamed.

    Raises:
        DataError: no samples, or one that holds infinite or undefined numbers.
    """
    buckets: dict[Any, _Bucket] = {}
    size = count = 0
    for feed, labels, samples in feeds():
        _check_finite(feed, count)
        size += sum(array.nbytes for array in feed.values())
        count += max(samples, 1)
        if size <= reading.most_bytes:
            key = _shapes(feed, samples)
            buckets.setdefault(key, _Bucket(whole=samples == 0)).add(feed, labels, samples)
        else:
            buckets.clear()
    if not count:
        raise DataError("holds no samples", where="calibration data", fix="give at least one feed")
    if size > reading.most_bytes:
        return Streamed(feeds, reading, count, size)
    return Stored([bucket.closed() for bucket in buckets.values()], reading)


@dataclass
class _Bucket:
    """Samples of equal shapes."""

    whole: bool
    feeds: list[Arrays] = field(default_factory=list)
    labels: list[np.ndarray | None] = field(default_factory=list)

    def add(self, feed: Arrays, labels: np.ndarray | None, samples: int) -> None:
        cut = {name: array[None] if self.whole else array[:samples] for name, array in feed.items()}
        self.feeds.append(cut)
        self.labels.append(None if labels is None else labels[None] if self.whole else labels)

    def closed(self) -> _Samples:
        arrays = {name: np.concatenate([feed[name] for feed in self.feeds]) for name in self.feeds[0]}
        present = [labels for labels in self.labels if labels is not None]
        joined = np.concatenate(present) if len(present) == len(self.labels) else None
        self.feeds.clear()
        return _Samples(arrays, joined, self.whole)


@dataclass(frozen=True)
class _Samples:
    """Samples of equal shapes, stacked."""

    arrays: Arrays
    labels: np.ndarray | None
    whole: bool

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def example(self, rows: np.ndarray, first: int) -> Example:
        which = (rows[0], ...) if self.whole else (rows,)  # the dots: an array even where no axis is left
        feed = {name: array[which] for name, array in self.arrays.items()}
        labels = None if self.labels is None else self.labels[which]
        return Example(feed, labels, len(rows), rows + first)


class Stored:
    """Samples in memory.

    Args:
        buckets: samples of equal shapes each.
        reading: how they are read.
    """

    def __init__(self, buckets: Sequence[_Samples], reading: ReadOptions) -> None:
        self._buckets, self._reading = buckets, reading
        self._first = np.cumsum([0, *map(len, buckets)])
        self.count = int(self._first[-1])
        order = np.random.default_rng([reading.seed, 0]).permutation(self.count)
        held = reading.held_out(self.count)
        self.holds_out = held > 0
        self._held, self._trained = np.sort(order[:held]), np.sort(order[held:])
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])
        self._batches = len(self._order(0))

    def batch(self, step: int) -> list[Example]:
        """The samples of a step."""
        epoch, at = divmod(step, self._batches)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._order(epoch))
        return list(self._examples(self._epoch[1][at], fill=True))

    def held_out(self) -> Iterator[Example]:
        """The samples that are held out; all of them where none are."""
        rows = self._held if len(self._held) else self._trained
        for group in self._by_bucket(rows):
            for start in range(0, len(group), self._reading.batch_size):
                yield from self._examples(group[start : start + self._reading.batch_size], fill=True)

    def in_order(self) -> Iterator[Example]:
        """Every sample once, in its place."""
        for group in self._by_bucket(np.arange(self.count)):
            for start in range(0, len(group), self._reading.batch_size):
                yield from self._examples(group[start : start + self._reading.batch_size], fill=True)

    def _order(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch; what is left over of a shape is a batch of its own, unless all else are full."""
        random = np.random.default_rng([self._reading.seed, 1, epoch])
        batches: list[np.ndarray] = []
        for group in self._by_bucket(self._trained):
            mixed = random.permutation(group)
            size = min(self._reading.batch_size, len(mixed))
            full = len(mixed) // size if len(self._buckets) == 1 else -(-len(mixed) // size)
            batches += [mixed[at * size : (at + 1) * size] for at in range(full)]
        return [batches[at] for at in random.permutation(len(batches))]

    def _by_bucket(self, rows: np.ndarray) -> list[np.ndarray]:
        cuts = np.searchsorted(rows, self._first[1:-1])
        return [group for group in np.split(rows, cuts) if len(group)]

    def _examples(self, rows: np.ndarray, *, fill: bool) -> Iterator[Example]:
        """The rows, of one bucket, in as many calls as the model needs; the last is filled up with its own rows."""
        at = int(np.searchsorted(self._first, rows[0], side="right")) - 1
        bucket, first = self._buckets[at], int(self._first[at])
        size = 1 if bucket.whole else self._reading.call_size or len(rows)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            if fill and len(part) < size:
                part = np.resize(part, size)
            yield bucket.example(part - first, first)


class Streamed:
    """Samples that do not fit into memory: read in order past a buffer out of which batches are drawn.

    Going back to an earlier step reads the epoch anew up to there.
    """

    def __init__(self, feeds: Feeds, reading: ReadOptions, count: int, size: int) -> None:
        self._feeds, self._reading, self.count = feeds, reading, count
        held = reading.held_out(count)
        self.holds_out = held > 0
        self._period = count // held if held else 0
        self._most = held
        self._buffer = max(reading.batch_size, int(count * reading.most_bytes / (2 * max(size, 1))))
        self._step, self._stream = 0, self._endless(0)
        self._batches: int | None = None

    def batch(self, step: int) -> list[Example]:
        """The samples of a step."""
        if step < self._step:
            self._step, self._stream = 0, self._endless(0)
        while self._step < step:
            next(self._stream)
            self._step += 1
        self._step += 1
        return next(self._stream)

    def held_out(self) -> Iterator[Example]:
        """The samples that are held out, evenly spaced; the first ones of all where none are."""
        yield from (example for examples in self._grouped(self._samples(held=True)) for example in examples)

    def in_order(self) -> Iterator[Example]:
        """None: they are not kept."""
        return iter(())

    def _endless(self, epoch: int) -> Iterator[list[Example]]:
        while True:
            random = np.random.default_rng([self._reading.seed, 1, epoch])
            yield from self._grouped(_shuffled(self._samples(held=False), self._buffer, random))
            epoch += 1

    def _samples(self, *, held: bool) -> Iterator[Example]:
        """One sample at a time."""
        at = taken = 0
        for feed, labels, samples in self._feeds():
            for row in range(max(samples, 1)):
                is_held = self._period > 0 and at % self._period == 0 and at // self._period < self._most
                at += 1
                wanted = is_held == held if self._period else (not held or taken < self._reading.most_held_out)
                if wanted:
                    taken += 1
                    yield _single(feed, labels, row if samples else None)

    def _grouped(self, samples: Iterable[Example]) -> Iterator[list[Example]]:
        """Batches of samples of equal shapes; what is left over of a shape at the end is a batch of its own."""
        waiting: dict[Any, list[Example]] = {}
        for sample in samples:
            group = waiting.setdefault(_shapes(sample.feed, int(sample.rows is not None)), [])
            group.append(sample)
            if len(group) == self._reading.batch_size:
                yield list(self._joined(group))
                group.clear()
        for group in waiting.values():
            if group:
                yield list(self._joined(group))

    def _joined(self, group: list[Example]) -> Iterator[Example]:
        if group[0].rows is None:
            yield from group
            return
        size = self._reading.call_size or len(group)
        for start in range(0, len(group), size):
            part = group[start : start + size]
            part = [part[at % len(part)] for at in range(size)]
            feed = {name: np.concatenate([example.feed[name] for example in part]) for name in part[0].feed}
            present = [example.labels for example in part if example.labels is not None]
            yield Example(feed, np.concatenate(present) if len(present) == len(part) else None, len(part))


def _single(feed: Arrays, labels: np.ndarray | None, row: int | None) -> Example:
    """One sample of a feed, or the feed as a whole; ``rows`` distinguishes them until samples are joined."""
    if row is None:
        return Example(feed, labels, 1)
    only = slice(row, row + 1)
    cut = {name: array[only].copy() for name, array in feed.items()}
    return Example(cut, None if labels is None else labels[only], 1, np.zeros(1, np.int64))


def _shuffled(samples: Iterator[Example], size: int, random: np.random.Generator) -> Iterator[Example]:
    """Fill a buffer, then let each sample push a random one out."""
    buffer: list[Example] = []
    for sample in samples:
        if len(buffer) < size:
            buffer.append(sample)
            continue
        at = int(random.integers(len(buffer)))
        buffer[at], sample = sample, buffer[at]
        yield sample
    for at in random.permutation(len(buffer)):
        yield buffer[int(at)]


def _shapes(feed: Arrays, samples: int) -> Any:
    """What samples must share to be stacked."""
    return samples == 0, tuple((name, array.shape[samples > 0 :], array.dtype.str) for name, array in feed.items())


def _check_finite(feed: Arrays, first: int) -> None:
    for name, array in feed.items():
        if array.dtype.kind == "O":
            raise UsageError(
                "text cannot be trained on", where=f"input {name!r}", fix="leave training out for this model"
            )
        if array.dtype.kind == "f" and not np.isfinite(array.sum()) and not np.isfinite(array).all():
            raise DataError(
                "holds infinite or undefined numbers",
                where=f"calibration data, input {name!r}, samples from {first}",
                fix="check the data and its preprocessing",
            )
