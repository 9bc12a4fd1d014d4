"""What other packages add through entry points: passes, backends, targets and recipes; one way for all of them.

    [project.entry-points."graphpress.passes"]
    acme_trim = "graphpress_acme.trim:Trim"        # a class: module:name

    [project.entry-points."graphpress.targets"]
    acme_board = "graphpress_acme:board.toml"      # a file: package:file name

Nothing is imported until its name is asked for, and a file's package not even then. A name that two packages claim
raises and names both.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from graphpress.errors import UsageError

OURS = "graphpress"


@dataclass(frozen=True)
class Entry:
    """Something that has a name.

    Args:
        name: as users write it.
        reference: where it is: ``module:name``, or ``package:file``.
        origin: the distribution that brings it.
    """

    name: str
    reference: str
    origin: str = OURS

    def load(self) -> Any:
        """The object.

        Raises:
            UsageError: its module cannot be imported, or has no such name.
        """
        module, _, attribute = self.reference.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except Exception as error:  # third-party code runs while it is imported
            raise self._broken(f"{type(error).__name__}: {error}") from error

    def file(self) -> Path:
        """The file, beside the package's modules.

        Raises:
            UsageError: there is no such package, or no such file in it.
        """
        package, _, name = self.reference.partition(":")
        try:
            spec = find_spec(package)
        except (ImportError, ValueError) as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error
        folders = (spec and spec.submodule_search_locations) or ()
        file = next((Path(folder) / name for folder in folders if name and (Path(folder) / name).is_file()), None)
        if file is None:
            raise self._broken("there is no such file")
        return file

    def _broken(self, why: str) -> UsageError:
        return UsageError(
            f"{self.name!r} cannot be loaded from {self.reference} ({why})",
            where="entry points",
            fix=f"reinstall {self.origin}, which provides it",
        )


def installed(group: str, own: Collection[str]) -> dict[str, Entry]:
    """What other packages add to a group, by name.

    Args:
        group: the group of entry points.
        own: names that are ours, which nobody may take.

    Raises:
        UsageError: two packages claim one name.
    """
    table = {name: Entry(name, "") for name in own}
    entries: dict[str, Entry] = {}
    for entry in _entries(group):
        other = table.setdefault(entry.name, entry)
        if other.reference != entry.reference:
            raise UsageError(
                f"the name {entry.name!r} is claimed by {other.origin} and by {entry.origin}",
                where=f"entry points {group}",
                fix="uninstall one of the two packages",
            )
        entries[entry.name] = entry
    return entries


@cache
def _entries(group: str) -> tuple[Entry, ...]:
    points = sorted(entry_points(group=group), key=lambda point: (point.name, point.value))
    return tuple(Entry(point.name, point.value, point.dist.name if point.dist else point.value) for point in points)


@dataclass(frozen=True)
class NamedFile:
    """A file that users call by a name.

    Args:
        name: as users write it.
        place: where it lies, or the entry of the package that brings it, which is not looked for until it is used.
        origin: the distribution that brings it; empty for a file of the user's own.
    """

    name: str
    place: Path | Entry
    origin: str = ""

    @property
    def file(self) -> Path:
        """Where it lies.

        Raises:
            UsageError: the package that brings it has no such file.
        """
        return self.place if isinstance(self.place, Path) else self.place.file()

    def __str__(self) -> str:
        """The file, with the package that brings it where that is not ours: the place of an error."""
        return f"{self.file} (from {self.origin})" if self.origin not in ("", OURS) else str(self.file)


def named_files(folder: Path, suffix: str, group: str) -> dict[str, NamedFile]:
    """Our own files of one kind and those of other packages, by name, sorted.

    Raises:
        UsageError: two packages claim one name.
    """
    own = {file.stem: NamedFile(file.stem, file, OURS) for file in folder.glob(f"*{suffix}")}
    theirs = {name: NamedFile(name, entry, entry.origin) for name, entry in installed(group, own).items()}
    return dict(sorted((own | theirs).items()))
