"""The original model as a reference that many candidates are compared with, on the same samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import numpy as np

from graphpress.runtime import Session

MOST_BYTES: Final = 64 << 20
"""Of answers that are kept: those to more samples are computed each time."""


class RememberedReference:
    """Runs a model, and keeps what it answered to each feed, known by its contents, in bounded memory.

    Args:
        session: the model; its answers belong to whoever reads them, and are not written to.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._answers: dict[bytes, dict[str, np.ndarray]] = {}
        self._room = MOST_BYTES

    @property
    def can_stand_by(self) -> bool:
        """Whether the model is so large that it should not be loaded beside another."""
        return self.session.can_stand_by

    def __call__(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the model answers."""
        key = _digest(feed)
        if key is None:
            return self.session.run(feed)
        if key not in self._answers:
            answer = self.session.run(feed)
            size = _bytes_of(answer)
            if size is None or size > self._room:
                return answer
            self._room -= size
            self._answers[key] = answer
        return dict(self._answers[key])

    def stand_by(self) -> None:
        """Give the memory of a large model back until the next run."""
        self.session.stand_by()


def _digest(feed: Mapping[str, np.ndarray]) -> bytes | None:
    """A hash of the contents; None where they are objects, as strings are."""
    contents = hashlib.blake2b(digest_size=16)
    for name, array in sorted(feed.items()):
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            return None
        contents.update(repr((name, array.shape, array.dtype.str)).encode())
        contents.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return contents.digest()


def _bytes_of(answer: Mapping[str, object]) -> int | None:
    """Size of the arrays; None where an output is no array, as sequences and maps are."""
    arrays = [value for value in answer.values() if isinstance(value, np.ndarray) and not value.dtype.hasobject]
    return sum(array.nbytes for array in arrays) if len(arrays) == len(answer) else None
