"""Scratch folders, locked while their process lives, so that a later run can tell and remove what a killed one left.

Each holds an ``OWNER`` file, which makes it one of ours, and which is locked (``flock``): such a lock dies with its
process. It is the first file to be written and the last to be removed: a folder that holds anything has it, always.
Where the file system or the operating system has no such locks, nothing is ever taken for left behind.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on every operating system
    fcntl = None  # type: ignore[assignment]

OWNER = ".graphpress-owner"
"""Holds the number of the process."""
PREFIX = "graphpress-scratch-"
"""How names of scratch folders begin, in the system's temporary folder: nobody else gives such names, since one without
an ``OWNER`` is removed as well if it is empty."""


@contextmanager
def scratch_folder(parent: Path | None = None, prefix: str = PREFIX) -> Iterator[Path]:
    """A new folder that vanishes with its contents at the end of the block.

    Args:
        parent: where it lies; the system's temporary folder by default.
        prefix: how its name begins.
    """
    folder, lock = _new_folder(parent, prefix)
    try:
        yield folder
    finally:
        remove(folder)
        os.close(lock)


@contextmanager
def scratch_beside(file: Path) -> Iterator[Path]:
    """A folder in which to write a file that is to be put in place whole; those that killed processes left vanish."""
    prefix = f".{file.name}.scratch-"
    reclaim(file.parent, prefix)
    with scratch_folder(file.parent, prefix) as folder:
        yield folder


def reclaim(parent: Path | None = None, prefix: str = PREFIX) -> None:
    """Remove the scratch folders that killed runs left there."""
    for folder in abandoned(parent or Path(tempfile.gettempdir()), f"{glob.escape(prefix)}*"):
        remove(folder)


def abandoned(parent: Path, pattern: str) -> Iterator[Path]:
    """The folders of ours with such a name whose process is dead; each is locked while it is looked at."""
    for folder in sorted(parent.glob(pattern)):
        with suppress(OSError):  # it is held, gone, somebody else's, or no folder
            if not (folder / OWNER).is_file():
                folder.rmdir()  # killed before it wrote a thing, or about to, and then made anew; fails if not empty
                continue
            lock = hold(folder)
            try:
                yield folder
            finally:
                os.close(lock)


def hold(folder: Path, *, new: bool = False) -> int:
    """Lock a folder and make it ours, until the descriptor that this returns is closed or the process ends.

    Args:
        folder: one of ours, or an empty one.
        new: it was made just now, so that nobody else can hold it even where there are no locks.

    Raises:
        BlockingIOError: another process holds it.
        FileNotFoundError: another process has removed it.
        OSError: it is a link or no folder, it cannot be written, or there are no locks here.
    """
    if folder.is_symlink():
        raise NotADirectoryError(f"{folder} is a link")
    lock = os.open(folder / OWNER, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    try:
        _lock(lock, new)
        if not os.path.samestat(os.fstat(lock), (folder / OWNER).lstat()):
            raise FileNotFoundError(f"{folder} was made anew")
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    except BaseException:
        os.close(lock)
        raise
    return lock


def _lock(descriptor: int, new: bool) -> None:
    try:
        if fcntl is None:
            raise OSError("there are no locks here")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        if not new:
            raise


def owner(folder: Path) -> str:
    """The process that holds a folder, in words."""
    try:
        return f"process {int((folder / OWNER).read_text(encoding='ascii'))}"
    except (OSError, ValueError):
        return "another process"


def remove(folder: Path) -> None:
    """Remove a folder of ours, as far as the file system lets us."""
    with suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != OWNER:
                entry.unlink(missing_ok=True)
        if [entry.name for entry in folder.iterdir()] == [OWNER]:
            (folder / OWNER).unlink()
        folder.rmdir()


def _new_folder(parent: Path | None, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(BlockingIOError, FileNotFoundError):  # another run took it for left behind: it was still empty
            return folder, hold(folder, new=True)
