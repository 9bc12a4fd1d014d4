"""Samples: feeds that can be read any number of times, in the same order, in bounded memory."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphpress.data.inputs import Dims, Feed, Shapes
from graphpress.data.preprocess import Preprocessor, Sample
from graphpress.data.sources import Source, hash_array


@dataclass(frozen=True)
class Batch:
    """One call's worth of samples.

    Args:
        feed: the arrays, padded to the model's batch size where that is fixed.
        labels: ``[count, ...]``, or None.
        count: how many samples are real.
        padding: how many times the last one is repeated after them.
    """

    feed: Feed
    labels: np.ndarray | None
    count: int
    padding: int = 0


class Samples(ABC):
    """Samples of one part of the data. Every pass yields the same feeds in the same order.

    Attributes:
        labels: ``[count, ...]``, or None.
        count: number of samples.
        batch_size: the most samples a feed holds.
        notes: for the report.
    """

    labels: np.ndarray | None
    count: int
    batch_size: int
    notes: tuple[str, ...] = ()

    @abstractmethod
    def counted_batches(self) -> Iterator[Batch]:
        """The samples, batch by batch, with the number of real samples in each."""

    @abstractmethod
    def spread(self, limit: int) -> Samples:
        """About ``limit`` samples, evenly spaced, so that data sorted by class stays covered."""

    @abstractmethod
    def take(self, places: Sequence[int]) -> Samples:
        """What lies at these places of ``shapes``, in ascending order."""

    def in_batches_of(self, most: int) -> Samples:
        """The same, with at most so many samples in a feed, where nobody chose how many."""
        return self

    @abstractmethod
    def shapes(self) -> Sequence[Shapes]:
        """What each sample is fed as, or each whole feed where somebody else's code makes feeds."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the content and of how it is read, in hexadecimal."""

    def batches(self) -> Iterator[tuple[Feed, np.ndarray | None]]:
        """Feeds with the labels of their real samples.

        Where the model fixes a batch size, the last feed is filled up by repeating its last sample: cut the outputs
        to the running ``count`` (``counted_batches`` says how many are real).
        """
        for batch in self.counted_batches():
            yield batch.feed, batch.labels

    def __iter__(self) -> Iterator[Feed]:
        """The feeds alone."""
        for batch in self.counted_batches():
            yield batch.feed


@dataclass(frozen=True)
class Column:
    """One model input, the source that feeds it and what happens in between."""

    name: str
    source: Source
    preprocessor: Preprocessor

    def samples(self, indices: Sequence[int]) -> Iterator[Sample]:
        """Finished samples of these numbers."""
        for index, record in zip(indices, self.source.records(indices), strict=True):
            yield self.preprocessor(record, f"{self.source.place(index)}, for input {self.name!r}")

    def shapes(self, indices: Sequence[int]) -> list[tuple[int, ...]]:
        """Shapes in which these samples are fed one by one.

        Nothing is read where the model leaves no choice. Records of one shape become samples of one shape: one of each
        is read. Only a user's function may make of each what it likes.
        """
        if (fixed := _only_shape(self.preprocessor.dims)) is not None:
            return [fixed] * len(indices)
        if self.preprocessor.function is not None:
            return [sample.fed_shape for sample in self.samples(indices)]
        raw = self.source.shapes(indices)
        first = dict(zip(reversed(raw), reversed(indices), strict=True))
        finished = {shape: next(self.samples([index])).fed_shape for shape, index in first.items()}
        return [finished[shape] for shape in raw]


@dataclass(frozen=True)
class ColumnSamples(Samples):
    """Samples read record by record from sources.

    Args:
        columns: one an input, all of the same length.
        indices: the records to read.
        labels: ``[len(indices), ...]``, or None.
        batch_size: the most samples a feed holds.
        padded: the model fixes the batch size, so that the last feed is filled up.
        chosen: somebody chose the batch size, the model or the user.
        spec: how the data is read, for the fingerprint.
        notes: for the report.
    """

    columns: tuple[Column, ...]
    indices: Sequence[int]
    labels: np.ndarray | None
    batch_size: int
    padded: bool = False
    chosen: bool = False
    spec: str = ""
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:  # type: ignore[override]
        """Number of samples."""
        return len(self.indices)

    def counted_batches(self) -> Iterator[Batch]:
        """Batches of equal shapes: a sample of another shape, or without a batch axis to stack along, begins anew."""
        done, rows = 0, list[_Row]()
        for row in zip(*(column.samples(self.indices) for column in self.columns), strict=True):
            if rows and (len(rows) == self.batch_size or not _stackable(rows[0], row)):
                start, done = done, done + len(rows)
                yield self._batch(rows, start)
            rows.append(row)
        if rows:
            yield self._batch(rows, done)

    def spread(self, limit: int) -> Samples:
        """At most ``limit`` samples, evenly spaced."""
        return self.take(evenly_spaced(self.count, limit).tolist())

    def take(self, places: Sequence[int]) -> Samples:
        """The samples at these places."""
        return replace(
            self,
            indices=[self.indices[at] for at in places],
            labels=None if self.labels is None else self.labels[list(places)],
        )

    def in_batches_of(self, most: int) -> Samples:
        """The same with smaller feeds, unless the model or the user chose the batch size."""
        return self if self.chosen else replace(self, batch_size=min(self.batch_size, most))

    def shapes(self) -> Sequence[Shapes]:
        """What each sample is fed as when it is alone."""
        columns = [[(column.name, shape) for shape in column.shapes(self.indices)] for column in self.columns]
        return [dict(row) for row in zip(*columns, strict=True)]

    def fingerprint(self) -> str:
        """SHA-256 over the sources' bytes, the labels, the record numbers and the preprocessing."""
        digest = hashlib.sha256(self.spec.encode())
        digest.update(repr([(column.name, column.preprocessor.dims) for column in self.columns]).encode())
        hash_array(np.asarray(self.indices, np.int64), digest)
        if self.labels is not None:
            hash_array(self.labels, digest)
        for source in {id(column.source): column.source for column in self.columns}.values():
            source.hash_into(digest)
        return digest.hexdigest()

    def _batch(self, rows: list[_Row], start: int) -> Batch:
        """Stack the rows and empty the list: while the batch is in use, its samples are not held twice."""
        count = len(rows)
        padding = self.batch_size - count if self.padded and _stackable(rows[0], rows[0]) else 0
        rows.extend([rows[-1]] * padding)
        arrays = [
            np.stack([sample.array for sample in samples]) if samples[0].stacked else samples[0].array
            for samples in zip(*rows, strict=True)
        ]
        rows.clear()
        feed = {column.name: array for column, array in zip(self.columns, arrays, strict=True)}
        return Batch(feed, None if self.labels is None else self.labels[start : start + count], count, padding)


_Row = tuple[Sample, ...]


def evenly_spaced(count: int, limit: int) -> np.ndarray:
    """At most ``limit`` of ``count`` positions, evenly spaced, the first among them.

    >>> evenly_spaced(10, 4).tolist()
    [0, 2, 5, 7]
    """
    kept = min(count, limit)
    return np.arange(kept) * count // max(kept, 1)


def _only_shape(dims: Dims) -> tuple[int, ...] | None:
    """The shape of a sample that is fed alone, where at most the batch is open."""
    if not dims:
        return None
    shape = [1 if axis == 0 and not isinstance(dim, int) else dim for axis, dim in enumerate(dims)]
    return tuple(dim for dim in shape if isinstance(dim, int)) if all(isinstance(dim, int) for dim in shape) else None


def typical(samples: Samples, limit: int) -> Samples:
    """At most ``limit`` samples that stand for all: evenly spaced, and of all sizes where sizes differ.

    Of the sizes, the smallest and the largest are among them.
    """
    shapes = samples.shapes()
    if all(shape == shapes[0] for shape in shapes[1:]):
        return samples.take(evenly_spaced(len(shapes), limit).tolist())
    by_size = sorted(range(len(shapes)), key=lambda at: sum(math.prod(shape) for shape in shapes[at].values()))
    places = np.linspace(0, len(by_size) - 1, min(limit, len(by_size))).astype(int)
    return samples.take(sorted(by_size[place] for place in places))


def _stackable(first: _Row, second: _Row) -> bool:
    return all(
        left.stacked and right.stacked and left.array.shape == right.array.shape
        for left, right in zip(first, second, strict=True)
    )
