"""Where the table of a target comes from: a file of ours, of another package, or of the user's own.

Four keys of a target file are no fields of ``Target``: ``like`` names a target to start from, whose keys hold where
nothing else is given, but for its aliases and its peak rates; ``aliases`` are other names; each ``[[adjust]]`` applies,
on this machine, where the processor lacks all of the features that it lists; and ``[options.NAME]`` is something that
the user may choose in braces, ``jetson{jetpack=5.1}``: ``default`` names the choice that holds where the user makes
none, and every other key is a choice with the table that it changes. A choice's ``needs`` lists choices of other
options (``{jetpack = ["5.1", "6.0"]}``) without which it makes no sense. An option replaces that of the same name of
the target it is ``like``; an empty one takes it away. ``docs/targets.md`` has it at length.
"""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from graphpress.errors import UsageError, did_you_mean
from graphpress.plugins import NamedFile, named_files
from graphpress.targets.check import check_table

FOLDER = Path(__file__).parent
GROUP = "graphpress.targets"

OF_ONE_DEVICE = frozenset({"aliases", "options", "peak_gmacs"})
"""Keys that are not mixed, key by key, with those of the target that another is ``like``."""


def target_names() -> list[str]:
    """Names and aliases of all targets that have a name, sorted."""
    return sorted([*named(), *_aliases()])


def aliases_of(name: str) -> list[str]:
    """Other names of a target, sorted."""
    return sorted(alias for alias, real in _aliases().items() if real == name)


def origin_of(name: str) -> str:
    """The distribution that brings the target of that name; empty for a file of the user's own."""
    return source_of(name).origin


def source_of(called: str) -> NamedFile:
    """The file behind a name, an alias, or a path.

    Raises:
        UsageError: there is no such target or file.
    """
    if is_path(called):
        file = Path(called)
        if not file.is_file():
            raise UsageError("no such target file", where=called, fix="check the path, or name a target without it")
        return NamedFile(file.stem, file)
    name = _aliases().get(called, called)
    if name in named():
        return named()[name]
    fix = did_you_mean(called, target_names())
    if "=" in called:  # a shell expands braces with a comma in them: jetson{jetpack=5.1,dla=on} never arrives
        fix = "put it in quotes: 'NAME{option=choice,…}'"
    raise UsageError(f"unknown target {called!r}", where="--target", fix=fix)


def is_path(called: str) -> bool:
    """Whether a target is called by its file rather than by a name."""
    return called.endswith(".toml") or "/" in called or os.sep in called


def whole_table(source: NamedFile, behind: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The table of a target, on top of the one that it says it is ``like``.

    Args:
        source: its file.
        behind: the files that are like this one.

    Raises:
        UsageError: a file that is no target file, or targets that are like one another in a circle.
    """
    table = read_table(source)
    base: dict[str, Any] = {}
    if "like" in table:
        other = _like(table["like"], source)
        behind = (*behind, source.file.resolve())
        if other.file.resolve() in behind:
            raise UsageError("is like itself, by way of others", where=str(source), fix="break the circle")
        base = whole_table(other, behind)
    options = {**base.get("options", {}), **table.get("options", {})}
    inherited = {key: value for key, value in base.items() if key not in OF_ONE_DEVICE}
    return {**merged(inherited, table), "options": {option: choices for option, choices in options.items() if choices}}


def _like(called: str, source: NamedFile) -> NamedFile:
    """What a target file starts from: a name, or a path relative to the file."""
    try:
        return source_of(str(source.file.parent / called) if is_path(called) else called)
    except UsageError as error:
        raise UsageError(f"cannot be like {called!r}: {error.what}", where=str(source), fix=error.fix) from error


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the keys of ``changes``, tables within it key by key."""
    both = {**base, **changes}
    return {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in both.items()
    }


@cache
def named() -> dict[str, NamedFile]:
    """The targets that have a name: ours, and those of other packages."""
    return named_files(FOLDER, ".toml", GROUP)


@cache
def _aliases() -> dict[str, str]:
    table: dict[str, str] = {}
    for name, source in named().items():
        for alias in _own_aliases(source):
            if alias in named() or alias in table:
                raise UsageError(
                    f"the alias {alias!r} of {name} is taken by {table.get(alias, alias)}",
                    where=str(source),
                    fix="choose another alias",
                )
            table[alias] = name
    return table


def _own_aliases(source: NamedFile) -> tuple[str, ...]:
    """What a file says; a broken one breaks no other target."""
    try:
        return tuple(read_table(source).get("aliases", ()))
    except UsageError:
        return ()


def read_table(source: NamedFile) -> dict[str, Any]:
    """The table in a target file, its keys checked.

    Raises:
        UsageError: it cannot be read, or holds a key or a value that means nothing.
    """
    return _read_table(source, source.file.stat().st_mtime_ns)


@cache
def _read_table(source: NamedFile, changed: int) -> dict[str, Any]:
    try:
        table = tomllib.loads(source.file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"not readable as a target ({error})", where=str(source), fix="write it as TOML; see docs/targets.md"
        ) from error
    check_table(table, str(source))
    return table
