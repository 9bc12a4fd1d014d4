"""The output folder: claimed before work starts, written aside, put in place in one step, and never somebody else's.

A run that writes ``NAME`` works in ``.NAME.graphpress`` beside it, and holds that as long as it lives: another run to
the same folder is refused. What is finished there becomes ``NAME`` in one step, so that at each moment there is the
earlier folder or the new one, whole. What a killed run left is put right by the next one that writes beside it.

Only what a run has written is ever replaced: a folder whose manifest lists every file in it, with these very bytes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from graphpress.errors import GraphpressError, UsageError, listed, reraise_resource_fault
from graphpress.manager.manifest import foreign_files
from graphpress.progress import PLACE_WRITER
from graphpress.scratch import abandoned, hold, owner, remove
from graphpress.targets.sources import is_path

SUFFIX = ".graphpress"
RESULT, EARLIER, DONE_WITH = "result", "earlier", "done-with"
"""Folders in a run's own: what it writes, what that changes places with, and what may go. ``EARLIER`` is always whole:
the finished result just before, or the folder as it was just after. It is removed once it is known to be a run's work.
"""
_AT_WORKING_DIRECTORY, _EXCHANGE = -100, 2
"""Constants of renameat2."""
ATTEMPTS, SECONDS_BETWEEN = 10, 0.02
ANOTHER = "choose another --output"


def default_folder(model: Path, target: str) -> Path:
    """``MODEL-TARGET`` in the working directory, without the target's options or folder."""
    called = target.partition("{")[0].strip()
    return Path(f"{model.stem}-{Path(called).stem if is_path(called) else called}")


def check_folder(folder: Path, force: bool, inputs: Iterable[Path]) -> None:
    """Whether the folder may be written, as things are now.

    Args:
        folder: what would be replaced whole.
        force: replace an earlier result.
        inputs: files and folders that the run reads.

    Raises:
        UsageError: it is a file, a mount point or the working directory, or holds that or an input; it is not empty,
            and ``force`` was not given or something in it was not written by a run.
    """
    _check_place(folder, inputs)
    _check_replaceable(folder, force)


def _check_place(folder: Path, inputs: Iterable[Path]) -> None:
    place = _resolved(folder)
    if place.exists() and not place.is_dir():
        raise UsageError("is a file", where=str(folder), fix=ANOTHER)
    for path, what in (*((file, file.name) for file in inputs), (Path.cwd(), "the working directory")):
        if _resolved(path).is_relative_to(place):
            verb = "is" if _resolved(path) == place else "holds"
            raise UsageError(f"{verb} {what} and cannot be replaced", where=str(folder), fix=ANOTHER)
    if os.path.ismount(place):
        raise UsageError("is a mount point and cannot be replaced", where=str(folder), fix="choose a folder inside it")


def _check_replaceable(folder: Path, force: bool) -> None:
    with _usable(folder):
        if not folder.is_dir() or not any(folder.iterdir()):
            return
        if not force:
            raise _not_empty(folder)
        _check_written_by_a_run(folder, folder)


def _not_empty(folder: Path) -> UsageError:
    fix = f"{ANOTHER} (output=), or replace it with --force (force=True)"
    return UsageError("is not empty", where=str(folder), fix=fix)


def _check_written_by_a_run(place: Path, folder: Path) -> None:
    """Whether nothing in ``place``, which errors call ``folder``, is lost when it is removed."""
    try:
        foreign = foreign_files(place)
    except UsageError as error:
        raise UsageError(
            f"is not empty, and not the result of a run ({error.what}): it is not replaced",
            where=str(folder),
            fix=f"{ANOTHER}, or empty it yourself",
        ) from error
    if foreign:
        raise UsageError(
            f"holds files that no run has left as they are: {listed(foreign)}",
            where=str(folder),
            fix=f"move them away, or {ANOTHER}",
        )


@contextmanager
def claimed(folder: Path, force: bool) -> Iterator[Claim]:
    """The output folder, for one run at a time; what a killed run left beside it is put right.

    Args:
        folder: what would be replaced whole.
        force: replace an earlier result.

    Raises:
        UsageError: another run is at work on it, or there can be no folder at that place.
        ResourceError: it cannot be written, or the disk is full.
    """
    place = _resolved(folder)
    work = place.with_name(f".{place.name}{SUFFIX}")
    with ExitStack() as held:
        with _usable(folder):
            _make_parents(place, held)
            put_right(place.parent)
            PLACE_WRITER.get()(str(place.parent))
            held.callback(os.close, _held(work, folder))
        held.callback(_put_right, work)
        if not force:  # with it, the folder is looked at again in the moment in which it is replaced
            _check_replaceable(folder, force)
        yield Claim(folder, place, work, force)


def _make_parents(place: Path, held: ExitStack) -> None:
    """Make the folders above; in the end those that were made go again, unless there is something in them."""
    missing = [parent for parent in place.parents if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(exist_ok=True)
        held.callback(_remove_if_empty, parent)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _held(work: Path, folder: Path) -> int:
    """The lock on a new working folder."""
    for _ in range(ATTEMPTS):
        with suppress(FileExistsError, BlockingIOError):
            work.mkdir()
            with suppress(FileNotFoundError):
                return hold(work, new=True)
        time.sleep(SECONDS_BETWEEN)  # another run may be putting right what a killed one left, which takes a moment
    if (work / EARLIER).is_dir():
        what, fix = f"is in {work / EARLIER}, where a run that was killed left it", f"move it from there, remove {work}"
        raise UsageError(what, where=str(folder), fix=fix)
    raise UsageError(
        f"{owner(work)} is at work on it (in {work.name})",
        where=str(folder),
        fix=f"wait for it, or {ANOTHER}; if no run is at work there, remove {work}",
    )


def put_right(parent: Path) -> None:
    """Remove what killed runs left in the folder where their output was to go."""
    for work in abandoned(parent, f".*{SUFFIX}"):
        _put_right(work)


def _put_right(work: Path) -> None:
    """Remove a working folder. What was to change places goes where it belongs if that is free; if it is neither wanted
    there nor known to be a run's work, it stays.
    """
    earlier = work / EARLIER
    if earlier.is_dir():
        with suppress(OSError):
            earlier.rename(work.with_name(work.name.removeprefix(".").removesuffix(SUFFIX)))
    if earlier.is_dir():
        try:
            _check_written_by_a_run(earlier, earlier)
        except (GraphpressError, OSError):
            return
        earlier.rename(work / DONE_WITH)
    remove(work)


@dataclass(frozen=True)
class Claim:
    """The right to write a folder, which one run has at a time.

    Args:
        folder: as it was given.
        place: the same, links followed.
        work: the folder beside it that this run works in.
        force: replace an earlier result.
    """

    folder: Path
    place: Path
    work: Path
    force: bool

    @contextmanager
    def staged(self, inputs: Iterable[Path] = ()) -> Iterator[Path]:
        """A new folder that becomes the output when the block ends well, and vanishes when it does not.

        Args:
            inputs: files and folders that the run reads.

        Raises:
            UsageError: the output may not be replaced any more; the result is then kept beside it.
            ResourceError: it cannot be replaced; so is the result.
        """
        result = self.work / RESULT
        with _usable(self.folder):
            result.mkdir()
        yield result
        try:
            with _usable(self.folder):
                _check_place(self.place, inputs)
                self._put_in_place(result)
        except GraphpressError as error:
            kept = self._keep(result)
            raise type(error)(
                f"{error.what}; the result, which is finished, lies in {kept}",
                where=str(self.folder),
                fix=f"move it where you want it; next time {error.fix}",
            ) from error

    def _put_in_place(self, result: Path) -> None:
        try:
            result.rename(self.place)  # takes the place of an empty folder, but of nothing else
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if not self.force:
            raise _not_empty(self.folder)
        earlier = self.work / EARLIER
        _change_places(result, self.place, earlier)
        try:
            _check_written_by_a_run(earlier, self.folder)  # as it is now that nobody else gets at it
        except BaseException:
            self.place.rename(result)
            earlier.rename(self.place)
            raise
        earlier.rename(self.work / DONE_WITH)

    def _keep(self, result: Path) -> Path:
        """Put the result into a new folder beside the output, which no run will touch."""
        kept = Path(tempfile.mkdtemp(prefix=f"{self.place.name}-", dir=self.place.parent))
        return result.rename(kept)


def _change_places(new: Path, place: Path, earlier: Path) -> None:
    """Put ``new`` in place, and what was there into ``earlier``: in one step where the system has such a step. Where it
    has none, a run that is killed in between leaves the folder in ``earlier``, from where the next run puts it back.
    """
    new.rename(earlier)
    if not _exchanged(earlier, place):
        earlier.rename(new)
        place.rename(earlier)
        new.rename(place)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two paths, as Linux can; False where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    paths = [(_AT_WORKING_DIRECTORY, os.fsencode(path)) for path in (first, second)]
    return bool(rename(*paths[0], *paths[1], _EXCHANGE) == 0)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # a circle of links
        raise UsageError("cannot be followed: its links form a circle", where=str(path), fix=ANOTHER) from error


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """What the file system refuses, told of the output folder."""
    try:
        yield
    except OSError as error:
        reraise_resource_fault(error, str(folder))
        reason = error.strerror or str(error)
        raise UsageError(f"cannot be written ({reason})", where=str(folder), fix=ANOTHER) from error
