"""Samples from Python: feeds that somebody else's code makes, checked and cut to the model's batch size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from graphpress.data.inputs import (
    ModelInput,
    Shapes,
    cast,
    describe,
    fixed_batch,
    has_common_batch,
    matches,
    sample_dims,
    shapes_of,
    to_array,
)
from graphpress.data.samples import Batch, Samples, evenly_spaced
from graphpress.data.sources import hash_array
from graphpress.errors import DataError, did_you_mean

MATERIALIZE_BYTES = 2 << 30
"""The most that a source which can be read only once may take in memory."""


class FeedSamples(Samples):
    """Samples from an iterable of feeds.

    An item is a feed (mapping of input name to array, optionally with ``labels``), an array for a model with one input,
    or a pair of either and labels, as data loaders give it; tensors that numpy can convert are taken. The first axis
    counts samples; where the inputs have no common one, by their declarations or in the feed, a feed is a sample. Feeds
    of another size than the model fixes are cut and filled up.

    The iterable is read once when this is made, to check every feed and to count; later passes must yield the same.

    Raises:
        DataError: no feeds, or one that does not go with the model's inputs.
    """

    def __init__(self, feeds: Iterable[Any], inputs: Sequence[ModelInput], where: str = "data") -> None:
        self._feeds, self._inputs, self._where = feeds, tuple(inputs), where
        self._fixed = fixed_batch(self._inputs)
        self._common = has_common_batch(self._inputs)
        self._has_label_input = any(spec.name == "labels" for spec in self._inputs)
        self._kept: frozenset[int] | None = None
        self._inspect()

    def counted_batches(self) -> Iterator[Batch]:
        """The feeds, cut and filled up where the model fixes the batch size."""
        done = 0
        for at, batch in enumerate(self._whole_feeds()):
            if self._kept is None or at in self._kept:
                if done == 0:
                    self._check_unchanged(batch)
                done += batch.count
                yield from self._cut(batch)
        if done != self.count:
            raise self._changed(f"{done} samples where there were {self.count}")

    def spread(self, limit: int) -> Samples:
        """Whole feeds, evenly spaced, until they hold at least ``limit`` samples."""
        if limit >= self.count:
            return self
        wanted = max(1, -(-limit * len(self._shapes) // self.count))
        return self.take(evenly_spaced(len(self._shapes), wanted).tolist())

    def take(self, places: Sequence[int]) -> Samples:
        """The whole feeds at these places."""
        chosen = object.__new__(FeedSamples)
        chosen.__dict__.update(self.__dict__)
        chosen._kept = frozenset(self._numbers[place] for place in places)
        chosen._inspect()
        return chosen

    def shapes(self) -> Sequence[Shapes]:
        """What each feed holds, as it was given."""
        return self._shapes

    def fingerprint(self) -> str:
        """SHA-256 over all feeds and labels."""
        return self._digest

    def _inspect(self) -> None:
        """One pass that checks, counts and hashes."""
        digest, labels = hashlib.sha256(), []
        self.count, self.batch_size, self._first = 0, 1, ""
        self._shapes, self._numbers = list[Shapes](), list[int]()
        for at, batch in enumerate(self._whole_feeds()):
            if self._kept is not None and at not in self._kept:
                continue
            self._shapes.append(shapes_of(batch.feed))
            self._numbers.append(at)
            _hash_batch(batch, digest)
            self._first = self._first or digest.hexdigest()
            self.count += batch.count
            self.batch_size = max(self.batch_size, batch.count)
            labels.append(batch.labels)
        if self.count == 0:
            raise DataError("yields no samples", where=self._where, fix="give at least one feed")
        self.batch_size = self._fixed or self.batch_size
        self.labels = self._join(labels)
        self._digest = digest.hexdigest()

    def _join(self, labels: list[np.ndarray | None]) -> np.ndarray | None:
        present = [item for item in labels if item is not None]
        if not present:
            return None
        if len(present) != len(labels):
            raise DataError("some feeds have labels and some have none", where=self._where, fix="give all or none")
        return np.concatenate(present)

    def _whole_feeds(self) -> Iterator[Batch]:
        for at, item in enumerate(self._feeds):
            yield self._read(item, f"{self._where}, feed {at}")

    def _read(self, item: Any, where: str) -> Batch:
        content, labels = (item[0], item[1]) if isinstance(item, (tuple, list)) and len(item) == 2 else (item, None)
        if isinstance(content, Mapping) and labels is None and "labels" in content and not self._has_label_input:
            labels = content["labels"]
            content = {name: array for name, array in content.items() if name != "labels"}
        arrays = self._arrays(content, where)
        feed = {spec.name: _shaped(arrays[spec.name], spec, self._fixed, where) for spec in self._inputs}
        sizes = {len(array) for array in feed.values() if array.ndim}
        stacked = self._common and (len(sizes) == 1 or labels is not None)
        count = next((len(array) for array in feed.values() if array.ndim), 1) if stacked else 1
        if count == 0:
            raise DataError("is an empty feed", where=where, fix="leave it out")
        targets = None if labels is None else np.atleast_1d(to_array(labels, where))
        if targets is not None and targets.shape[0] != count:
            raise DataError(f"{targets.shape[0]} labels for {count} samples", where=where)
        return Batch(feed, targets, count)

    def _arrays(self, content: Any, where: str) -> dict[str, Any]:
        names = [spec.name for spec in self._inputs]
        if not isinstance(content, Mapping):
            if len(names) != 1:
                raise DataError(f"is not a mapping, and the model has {len(names)} inputs", where=where)
            return {names[0]: content}
        for name in content:
            if name not in names:
                fix = did_you_mean(str(name), [*names, "labels"])
                raise DataError(f"the model has no input {name!r}", where=where, fix=fix)
        for name in names:
            if name not in content:
                raise DataError(
                    f"lacks input {name!r}", where=where, fix="give an array for each of the model's inputs"
                )
        return dict(content)

    def _cut(self, batch: Batch) -> Iterator[Batch]:
        size = self._fixed
        if size is None or batch.count == size or not self._common:
            yield batch
            return
        for start in range(0, batch.count, size):
            count = min(size, batch.count - start)
            rows = [*range(start, start + count), *[start + count - 1] * (size - count)]
            feed = {name: array[rows] if array.ndim else array for name, array in batch.feed.items()}
            labels = None if batch.labels is None else batch.labels[start : start + count]
            yield Batch(feed, labels, count, padding=size - count)

    def _check_unchanged(self, batch: Batch) -> None:
        digest = hashlib.sha256()
        _hash_batch(batch, digest)
        if digest.hexdigest() != self._first:
            raise self._changed("another first feed")

    def _changed(self, how: str) -> DataError:
        return DataError(
            f"yields different feeds on another pass: {how}",
            where=self._where,
            fix="switch off shuffling and random augmentation, so that models are compared on the same samples",
        )


def reread(feeds: Iterable[Any], where: str) -> Iterable[Any]:
    """Something that can be iterated many times: ``feeds`` itself, or a list of what a one-shot iterator yields.

    Raises:
        DataError: the one-shot iterator yields more than ``MATERIALIZE_BYTES``.
    """
    if iter(feeds) is not feeds:
        return feeds
    return _keep(feeds, where)


def drain(reader: Any, where: str) -> list[Any]:
    """All feeds of a calibration data reader (``get_next() -> dict | None``), which can be read only once.

    Raises:
        DataError: it yields more than ``MATERIALIZE_BYTES``.
    """
    return _keep(iter(reader.get_next, None), where)


def _keep(feeds: Iterable[Any], where: str) -> list[Any]:
    kept, size = [], 0
    for item in feeds:
        parts = item.values() if isinstance(item, Mapping) else item if isinstance(item, (tuple, list)) else (item,)
        size += sum(getattr(part, "nbytes", 0) for part in parts)
        if size > MATERIALIZE_BYTES:
            raise DataError(
                f"can be read only once and yields more than {MATERIALIZE_BYTES >> 30} GiB",
                where=where,
                fix="give an object whose __iter__ starts anew each time",
            )
        kept.append(item)
    return kept


def _shaped(value: Any, spec: ModelInput, fixed: int | None, where: str) -> np.ndarray:
    """The array for one input, with a batch axis and in the model's dtype."""
    where = f"{where}, input {spec.name!r}"
    array = to_array(value, where)
    free = (None, *spec.dims[1:]) if spec.dims and fixed is not None else spec.dims
    if not matches(array.shape, free):
        if not matches(array.shape, sample_dims(spec.dims)):
            raise DataError(f"shape {list(array.shape)} does not fit the model's {describe(spec.dims)}", where=where)
        array = array[None]
    return cast(array, spec.dtype, where)


def _hash_batch(batch: Batch, digest: Any) -> None:
    for name, array in batch.feed.items():
        digest.update(name.encode())
        hash_array(array, digest)
    if batch.labels is not None:
        hash_array(batch.labels, digest)
