"""Expensive results kept by content: the key is a hash of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from graphpress.scratch import reclaim, scratch_folder

ASIDE = "aside-"
"""How names of folders begin in which an entry is written, until it is whole."""
ROOM = 1 << 30
"""Bytes that entries of bytes may take together."""
BYTES = ".bin"
"""Suffix of entries of bytes, which begin with their own digest."""
DIGEST = hashlib.sha256().digest_size


class ContentCache:
    """JSON values and bytes in a folder, or nowhere when no folder was given.

    A cache only saves time: one that cannot be read or written is done without from then on, and ``fault`` says why.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.fault = ""
        """Why nothing is kept any more, in a sentence; empty while all is well."""
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                reclaim(folder, ASIDE)
            except OSError as error:
                self._give_up(error)

    @property
    def folder(self) -> Path | None:
        """Where it lies, for results that are files of their own; None where nothing is kept."""
        return self._folder

    @contextmanager
    def told(self) -> Iterator[None]:
        """Note on an interrupt of the block that what was put here stays, for whoever tells the user of it."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as stop:
            if self._folder is not None and any(self._folder.glob("*.json")):
                stop.add_note(f"what was measured so far is kept in {self._folder}, where the same command finds it")
            raise

    def get(self, *key: str) -> Any:
        """The value stored under this key, or None (a damaged entry counts as absent)."""
        if self._folder is None:
            return None
        try:
            return json.loads(self._file(key).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        except OSError as error:
            self._give_up(error)
            return None

    def get_bytes(self, *key: str) -> bytes | None:
        """The bytes stored under this key, or None (a damaged entry counts as absent)."""
        if self._folder is None:
            return None
        file = self._file(key, BYTES)
        try:
            entry = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._give_up(error)
            return None
        with suppress(OSError):  # a cache that others fill may not be ours to touch
            os.utime(file)
        return entry[DIGEST:] if entry[:DIGEST] == hashlib.sha256(entry[DIGEST:]).digest() else None

    def put(self, value: Any, *key: str) -> None:
        """Store a value: written aside and renamed, so that a reader never sees half of it."""
        if self._folder is not None:
            self._write([(self._file(key), json.dumps(value).encode())])

    def put_bytes(self, entries: Mapping[tuple[str, ...], bytes]) -> None:
        """Store bytes by key; those that nobody asked for longest go where all of them take more than ``ROOM``."""
        if self._folder is None or not entries:
            return
        self._write([(self._file(key, BYTES), hashlib.sha256(data).digest() + data) for key, data in entries.items()])
        self._make_room()

    def _write(self, entries: Sequence[tuple[Path, bytes]]) -> None:
        try:
            with scratch_folder(self._folder, ASIDE) as folder:
                for file, content in entries:
                    aside = folder / file.name
                    aside.write_bytes(content)
                    aside.replace(file)
        except OSError as error:
            self._give_up(error)

    def _make_room(self) -> None:
        """Remove the oldest bytes; what another process removes meanwhile is no fault."""
        if self._folder is None:
            return
        taken = 0
        with suppress(OSError):
            files = [(file, file.stat()) for file in self._folder.glob(f"*{BYTES}")]
            for file, state in sorted(files, key=lambda entry: -entry[1].st_mtime_ns):
                taken += state.st_size
                if taken > ROOM:
                    file.unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        self.fault = without_cache(self._folder, error)
        self._folder = None

    def _file(self, key: tuple[str, ...], suffix: str = ".json") -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()}{suffix}"


NO_CACHE = ContentCache(None)
"""Keeps nothing."""


def without_cache(place: Path | None, error: Exception) -> str:
    """A warning that nothing is kept in a place any more, and why."""
    reason = getattr(error, "strerror", None) or error
    return f"nothing is kept in {place} any more ({reason}): what it would have saved is computed anew"
