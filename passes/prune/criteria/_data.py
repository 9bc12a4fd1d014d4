"""Calibration data in parts: so many samples, and how many a feed holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from graphpress.data import Feed, Samples, batch_of
from graphpress.errors import DataError


def some_samples(data: Iterable[Feed], limit: int) -> Iterable[Feed]:
    """Whole feeds with about ``limit`` samples: evenly spaced where the data has a length, else the first.

    They can be read as often as the data.
    """
    return data.spread(limit) if isinstance(data, Samples) else _First(data, limit)


@dataclass(frozen=True)
class _First:
    data: Iterable[Feed]
    limit: int

    def __iter__(self) -> Iterator[Feed]:
        left = self.limit
        for feed in self.data:
            if left <= 0:
                return
            yield feed
            left -= batch_of(feed)


def no_samples() -> DataError:
    """What is raised where the data holds nothing."""
    return DataError("the calibration data is empty", where="calibration", fix="give at least one sample")
