"""Samples that two parts of the data have in common, whatever files they stand in."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

from graphpress.data.samples import ColumnSamples, Samples
from graphpress.data.sources import ImageSource, Source


def shared_samples(first: Samples, second: Samples) -> int:
    """How many samples of the second part have the content of one of the first, before any preprocessing.

    Parts that somebody else's code makes are not compared: 0.
    """
    if not (isinstance(first, ColumnSamples) and isinstance(second, ColumnSamples)):
        return 0
    known = set(_digests(first))
    return sum(count for digest, count in Counter(_digests(second)).items() if digest in known)


def _digests(samples: ColumnSamples) -> Iterable[tuple[bytes, ...]]:
    return zip(*(_record_digests(column.source, samples.indices) for column in samples.columns), strict=True)


def _record_digests(source: Source, indices: Sequence[int]) -> Iterable[bytes]:
    """A hash of each record; of an image, that of its file, which need not be decoded."""
    if isinstance(source, ImageSource):
        return source.digests(indices)
    return (hashlib.sha256(record.tobytes()).digest() for record in source.records(indices))
