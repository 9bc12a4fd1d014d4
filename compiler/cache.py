"""Expensive results kept by content: the key is a hash of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from graphpress.errors import UsageError


class ContentCache:
    """JSON values in a folder, or nowhere when no folder was given."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(
                    f"cannot be made ({error.strerror})",
                    where=str(folder),
                    fix="give --cache-dir a folder that can be written",
                ) from error

    @property
    def folder(self) -> Path | None:
        """Where it lies, for results that are files of their own; None where nothing is kept."""
        return self._folder

    def get(self, *key: str) -> Any:
        """The value stored under this key, or None (an unreadable entry counts as absent)."""
        if self._folder is None:
            return None
        try:
            return json.loads(self._file(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def put(self, value: Any, *key: str) -> None:
        """Store a value: written aside and renamed, so that a reader never sees half of it."""
        if self._folder is None:
            return
        file = self._file(key)
        aside = file.with_suffix(f".{os.getpid()}.tmp")
        aside.write_text(json.dumps(value), encoding="utf-8")
        aside.replace(file)

    def _file(self, key: tuple[str, ...]) -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()}.json"
