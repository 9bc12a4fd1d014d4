"""A target by what it is called: ``cpu``, ``jetson{jetpack=5.1,dla=on}``, ``./board.toml``."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from graphpress.errors import UsageError, did_you_mean
from graphpress.plugins import NamedFile
from graphpress.targets.check import FILE_KEYS
from graphpress.targets.sources import is_path, merged, named, source_of, whole_table
from graphpress.targets.target import Option, Target
from graphpress.validation import MismatchError, build


def load_target(text: str | os.PathLike[str] | Target) -> Target:
    """The target of that name, alias or file, with options in braces.

    Args:
        text: ``jetson{jetpack=5.1,dla=on}``; what ends in ``.toml`` or holds a slash is the path of a target file.
            So is a path object; a target that was loaded is loaded anew.

    Raises:
        UsageError: there is none, its file is wrong, or it has no such option or choice; the message names the nearest.
    """
    called, choices = _parse(target_text(text))
    source = source_of(called)
    table = whole_table(source)
    chosen = _choose(table["options"], choices, called)
    for option, choice in chosen.items():
        changes = table["options"][option][choice]
        table = merged(table, {key: value for key, value in changes.items() if key != "needs"})
    others = [
        f"{option}={choice}" for option, choice in chosen.items() if choice != table["options"][option]["default"]
    ]
    canonical_name = _name_or_path(source) + (f"{{{','.join(others)}}}" if others else "")
    return _read(
        {**table, "name": source.name, "chosen": chosen, "canonical_name": canonical_name, "digest": _digest(table)},
        source,
    )


def target_text(target: str | os.PathLike[str] | Target) -> str:
    """What a target is called: text as it is, a path as text, a loaded target by its name and choices.

    Raises:
        UsageError: it is something else, or a target that is not what its name stands for.
    """
    if isinstance(target, str):
        return target
    if isinstance(target, os.PathLike):
        path = os.fspath(target)
        return path if is_path(path) else f"./{path}"
    if not isinstance(target, Target):
        raise UsageError(f"cannot be {target!r}", where="target", fix="give the name of a target or a path")
    if load_target(target.canonical_name) != target:
        raise UsageError(
            f"differs from what {target.canonical_name!r} stands for", where="target", fix="write it as a target file"
        )
    return target.canonical_name


def target_summaries() -> list[tuple[str, str, str]]:
    """Name, backend and description of each target that has a name, sorted; quick, for no target is made.

    Those that cannot be used are left out: ``broken_targets`` says which.
    """
    tables = {name: whole_table(source) for name, source in named().items() if _error_in(source) is None}
    return [
        (name, table.get("backend", Target.backend), table.get("description", "")) for name, table in tables.items()
    ]


def _digest(table: dict[str, Any]) -> str:
    """Of what a table says, before adjustments to this machine; descriptions, names and other choices do not count."""
    said = {key: value for key, value in table.items() if key not in ("description", "aliases", "like", "options")}
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def broken_targets() -> dict[str, UsageError]:
    """The targets that cannot be used, sorted, each with the error that naming it raises."""
    errors = {name: _error_in(source) for name, source in named().items()}
    return {name: error for name, error in errors.items() if error is not None}


def _error_in(source: NamedFile) -> UsageError | None:
    try:
        whole_table(source)
    except UsageError as error:
        return error
    return None


def options_of(called: str) -> dict[str, Option]:
    """The options of the target of that name, alias or file.

    Raises:
        UsageError: there is none.
    """
    options = whole_table(source_of(called))["options"]
    return {option: Option(table["default"], _choices(table)) for option, table in options.items()}


def _name_or_path(source: NamedFile) -> str:
    """How the command line calls it; a path keeps a slash, so that it stays one."""
    if source.origin:
        return source.name
    path = source.file.as_posix()
    return path if path.endswith(".toml") or "/" in path else f"./{path}"


def _choices(option: dict[str, Any]) -> tuple[str, ...]:
    return tuple(choice for choice in option if choice != "default")


def _parse(text: str) -> tuple[str, dict[str, str]]:
    """Name and choices of ``jetson{jetpack=5.1,dla=on}``; choices stay text, for 6.10 is no number."""
    name, brace, rest = text.strip().partition("{")
    choices = {}
    for item in rest.removesuffix("}").split(",") if brace else ():
        option, equals, choice = (part.strip() for part in item.partition("="))
        if not (option and equals and choice and rest.endswith("}")) or option in choices:
            raise UsageError(f"cannot read {text!r}", where="--target", fix="write NAME{option=choice,…}")
        choices[option] = choice
    return name, choices


def _choose(options: dict[str, Any], choices: dict[str, str], name: str) -> dict[str, str]:
    """The choice of every option, checked against what the others need."""
    where = f"--target {name}"
    for option, choice in choices.items():
        if option not in options:
            fix = did_you_mean(option, options) if options else "give the name alone"
            raise UsageError(f"there is no option {option!r}", where=where, fix=fix)
        known = _choices(options[option])
        if choice not in known:  # among versions, the nearest in form says nothing
            fix = did_you_mean(choice, known) if choice.isalpha() else f"choose one of: {', '.join(known)}"
            raise UsageError(f"{option} cannot be {choice!r}", where=where, fix=fix)
    chosen = {option: choices.get(option, table["default"]) for option, table in options.items()}
    for option, choice in chosen.items():
        for other, allowed in options[option][choice].get("needs", {}).items():
            if other not in chosen:
                fix = did_you_mean(other, chosen)
                raise UsageError(f"{option}={choice} needs an option {other!r} that it lacks", where=where, fix=fix)
            if chosen[other] not in allowed:
                fitting = [candidate for candidate in _choices(options[other]) if candidate in allowed]
                raise UsageError(
                    f"{option}={choice} does not go with {other}={chosen[other]}",
                    where=where,
                    fix=f"choose {other} from: {', '.join(fitting)}",
                )
    return chosen


def _read(table: dict[str, Any], source: NamedFile) -> Target:
    from graphpress.runtime.environment import cpu_features

    values = {key: value for key, value in table.items() if key not in FILE_KEYS}
    for adjustment in table.get("adjust", ()) if table.get("this_machine") else ():
        if not set(adjustment["lacks"]) & set(cpu_features()):
            values = merged(values, {key: value for key, value in adjustment.items() if key != "lacks"})
    try:
        return build(Target, values)
    except MismatchError as mismatch:  # a field that neither this file nor those that it is like gives
        raise UsageError(f"{mismatch.field} {mismatch.what}", where=str(source), fix=mismatch.fix) from mismatch
