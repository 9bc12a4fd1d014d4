"""Expensive results kept by content: the key is a hash of everything they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphpress.scratch import reclaim, scratch_folder

ASIDE = "aside-"
"""How names of folders begin in which an entry is written, until it is whole."""


class ContentCache:
    """JSON values in a folder, or nowhere when no folder was given.

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

    def put(self, value: Any, *key: str) -> None:
        """Store a value: written aside and renamed, so that a reader never sees half of it."""
        if self._folder is None:
            return
        file = self._file(key)
        text = json.dumps(value)
        try:
            with scratch_folder(self._folder, ASIDE) as folder:
                aside = folder / file.name
                aside.write_text(text, encoding="utf-8")
                aside.replace(file)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.fault = without_cache(self._folder, error)
        self._folder = None

    def _file(self, key: tuple[str, ...]) -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()}.json"


def without_cache(place: Path | None, error: Exception) -> str:
    """A warning that nothing is kept in a place any more, and why."""
    reason = getattr(error, "strerror", None) or error
    return f"nothing is kept in {place} any more ({reason}): what it would have saved is computed anew"
