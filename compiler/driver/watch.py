"""The files of a run stay what they were while it reads them, which it does more than once, and up to its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from graphpress.errors import GraphpressError, listed

_FIELDS = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


@dataclass(frozen=True)
class State:
    """What the file system says of a file.

    Args:
        bytes: its size; -1 where there is no such file.
        rest: what else changes whenever the file is written or replaced.
    """

    bytes: int
    rest: tuple[int, ...] = ()

    @classmethod
    def of(cls, file: Path) -> State:
        """That of a file at this moment, links followed."""
        try:
            status = file.stat()
        except OSError:
            return cls(-1)
        return cls(status.st_size, tuple(getattr(status, field) for field in _FIELDS))


def states(paths: Iterable[Path]) -> dict[Path, State]:
    """How files are at this moment; a folder stands for all files below it."""
    return {file: State.of(file) for path in paths for file in _files(path)}


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
    for place, _, names in os.walk(path):
        yield from (Path(place, name) for name in names)


def _nothing_is_known() -> bool:
    return False


@dataclass(frozen=True)
class Watched:
    """Files that are read together.

    Args:
        before: how they were before they were read.
        error: what it is if they have changed.
        same: whether their content is still what was read; asked when a file was touched or replaced.
    """

    before: Mapping[Path, State]
    error: type[GraphpressError]
    same: Callable[[], bool] = _nothing_is_known

    def check(self) -> None:
        """Whether all that was read of them is still there.

        Raises:
            GraphpressError: of the class ``error``.
        """
        now = {file: State.of(file) for file in self.before}
        touched = [file for file, state in now.items() if state != self.before[file]]
        cut = any(now[file].bytes < self.before[file].bytes for file in touched)
        if touched and (cut or not self._is_same()):
            raise self.error(
                "was changed while the run was reading it",
                where=listed([str(file) for file in touched]),
                fix="run again when nothing writes to it; nothing was delivered",
            )

    def _is_same(self) -> bool:
        try:
            return self.same()
        except (GraphpressError, OSError):
            return False


@dataclass(frozen=True)
class Watch:
    """All files of a run."""

    every: tuple[Watched, ...]

    def check(self) -> None:
        """Whether they are what was read.

        Raises:
            ModelError: the model or its external data has changed.
            DataError: the data has.
        """
        for watched in self.every:
            watched.check()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever fails in the block while a file has changed is told as that."""
        try:
            yield
        except Exception:
            self.check()
            raise
