"""The files of a run stay what they were while it reads them, which it does more than once, and up to its end.

Whether they did is asked before the result is put in place. At the beginning of each stage it is asked whether a file
that may be mapped into memory has become shorter: to read what is not there any more would end the process (SIGBUS).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from graphpress.errors import GraphpressError, listed
from graphpress.progress import STAGE_WRITER

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
        mapped: those of them that may be mapped into memory.
    """

    before: Mapping[Path, State]
    error: type[GraphpressError]
    same: Callable[[], bool] = _nothing_is_known
    mapped: Sequence[Path] = ()

    def check(self) -> None:
        """Whether all that was read of them is still there.

        Raises:
            GraphpressError: of the class ``error``.
        """
        touched = [file for file, state in self.before.items() if State.of(file) != state]
        if touched and (self._shorter(touched) or not self._is_same()):
            raise self._changed(touched)

    def check_length(self) -> None:
        """Whether what is mapped is still as long as it was.

        Raises:
            GraphpressError: of the class ``error``.
        """
        if shorter := self._shorter(self.mapped):
            raise self._changed(shorter)

    def _shorter(self, files: Iterable[Path]) -> list[Path]:
        return [file for file in files if State.of(file).bytes < self.before[file].bytes]

    def _changed(self, files: Iterable[Path]) -> GraphpressError:
        return self.error(
            "was changed while the run was reading it",
            where=listed([str(file) for file in files]),
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
        """Whatever fails in the block while a file has changed is told as that, and so is one that becomes shorter."""
        write = STAGE_WRITER.get()

        def checked(stage: str) -> None:
            for watched in self.every:
                watched.check_length()
            write(stage)

        token = STAGE_WRITER.set(checked)
        try:
            yield
        except Exception:
            self.check()
            raise
        finally:
            STAGE_WRITER.reset(token)
