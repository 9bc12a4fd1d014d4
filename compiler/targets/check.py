"""Whether every key and value of a target file means something, in the parts that apply only sometimes, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphpress.errors import UsageError, did_you_mean
from graphpress.targets.target import Target
from graphpress.validation import MismatchError, annotations_of, conform

NOT_FROM_FILES = ("name", "chosen", "canonical_name", "digest")
"""Fields of ``Target`` that follow from how it is called."""

FILE_KEYS: dict[str, Any] = {
    "like": str,
    "aliases": tuple[str, ...],
    "adjust": tuple[dict[str, Any], ...],
    "options": dict[str, dict[str, Any]],
}
"""Keys of a target file that are no fields of ``Target``."""

ADJUST_KEYS: dict[str, Any] = {"lacks": tuple[str, ...]}
WORD_KEYS: dict[str, Any] = {"needs": dict[str, tuple[str, ...]]}


def target_keys() -> dict[str, Any]:
    """What a target file may set, with the annotation of each."""
    return {name: kind for name, kind in annotations_of(Target).items() if name not in NOT_FROM_FILES}


def check_table(table: Mapping[str, Any], file: str) -> None:
    """Check a whole target file.

    Raises:
        UsageError: the first key that is unknown, missing or of the wrong kind, with its place in the file.
    """
    try:
        _check(table, {**target_keys(), **FILE_KEYS}, "")
        for index, adjustment in enumerate(table.get("adjust", ())):
            place = f"adjust[{index}]"
            _require(adjustment, "lacks", place)
            _check(adjustment, {**target_keys(), **ADJUST_KEYS}, place)
        for name, option in table.get("options", {}).items():
            _check_option(option, f"options.{name}")
    except MismatchError as mismatch:
        raise UsageError(f"{mismatch.field} {mismatch.what}", where=file, fix=mismatch.fix) from mismatch


def _check_option(option: Mapping[str, Any], place: str) -> None:
    """``default`` and the choices; an empty option takes away that of the target this one is like."""
    if not option:
        return
    _require(option, "default", place)
    choices = [choice for choice in option if choice != "default"]
    if not choices:
        raise MismatchError(place, "has no word to choose", "add one with the table that it changes: WORD = {}")
    if option["default"] not in choices:
        raise MismatchError(
            f"{place}.default", f"cannot be {option['default']!r}", did_you_mean(str(option["default"]), choices)
        )
    for choice in choices:
        table = conform(option[choice], dict[str, Any], f"{place}.{choice}")
        _check(table, {**target_keys(), **WORD_KEYS}, f"{place}.{choice}")


def _check(table: Mapping[str, Any], known: Mapping[str, Any], place: str) -> None:
    for key, value in table.items():
        where = f"{place}.{key}" if place else key
        if key not in known:
            raise MismatchError(where, "is not known", did_you_mean(key, known))
        conform(value, known[key], where)


def _require(table: Mapping[str, Any], key: str, place: str) -> None:
    if key not in table:
        raise MismatchError(f"{place}.{key}", "is missing", "add it; see docs/targets.md")
