"""Replay of a recorded run: what its manifest may say, and whether the same bytes came out.

A manifest is data from elsewhere. It sets the options that ``Options`` marks as recorded, and no others; code that it
names runs only where the call allows that, or names the same thing itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from graphpress.data import is_reference
from graphpress.driver.options import RECORDED, Options
from graphpress.errors import UsageError, did_you_mean
from graphpress.manager.manifest import MANIFEST_FILE, Manifest, file_records
from graphpress.manager.recipe import Recipe
from graphpress.manager.syntax import parse_steps
from graphpress.plain import plain

RECORDS = (MANIFEST_FILE, "report.json", "report.html")
"""Files that tell of a run: they hold times, so that no two are the same."""

_OPTIONS = tuple(item.name for item in fields(Options) if item.metadata == RECORDED)
_FIELDS = ("target", "backend", "seed", "threads")
"""Options that have fields of their own in a manifest."""


def recorded_options(options: Options) -> dict[str, Any]:
    """The options that a manifest holds beside those that have fields of their own, by name."""
    return {name: _as_text(getattr(options, name)) for name in _OPTIONS if name not in _FIELDS}


def check_manifest(manifest: Manifest, file: Path, options: Options) -> None:
    """Whether this call may replay a manifest, asked before anything that it names is loaded.

    Raises:
        UsageError: it sets an option that manifests do not hold, or names code that the call does not.
    """
    for name in manifest.options:
        if name in _FIELDS or name not in _OPTIONS:
            raise UsageError(
                f"a manifest cannot set the option {name!r}",
                where=str(file),
                fix="take it out of the manifest, and give it to the run itself"
                if hasattr(options, name)
                else did_you_mean(name, recorded_options(options)),
            )
    code = [] if options.allow_code else list(_code_of(manifest, options))
    if code:
        raise UsageError(
            f"it would run code that only the manifest names: {', '.join(code)}",
            where=str(file),
            fix="read that code; if you want it to run, add --allow-code (allow_code=True)",
        )


def replayed(options: Options, recipe: Recipe) -> Options:
    """The options, but that what the call leaves at its default is as it was in the recorded run.

    Raises:
        UsageError: the manifest holds a value that an option does not take.
    """
    manifest = recipe.manifest
    if manifest is None:
        return options
    recorded = {**manifest.options, **{name: getattr(manifest, name) for name in _FIELDS}}
    default = Options()
    kept = {name: value for name, value in recorded.items() if getattr(options, name) == getattr(default, name)}
    try:
        return replace(options, **kept)
    except UsageError as error:
        raise UsageError(error.what, where=f"{options.recipe}: {error.where}", fix=error.fix) from error


def changed_outputs(manifest: Manifest | None, folder: Path) -> tuple[str, ...] | None:
    """Files whose bytes are not those that the recorded run wrote; None where nothing is replayed.

    Args:
        manifest: of the recorded run.
        folder: what was written now.
    """
    if manifest is None or not manifest.outputs:
        return None
    before, now = ({record.name: record.sha256 for record in records if record.name not in RECORDS}
                   for records in (manifest.outputs, file_records(folder.iterdir(), folder)))  # fmt: skip
    return tuple(sorted(name for name in before | now if before.get(name) != now.get(name)))


def remade_decisions(manifest: Manifest | None, decisions: Mapping[str, Any]) -> list[str]:
    """Keys of recorded decisions that did not fit the run, which made them anew."""
    return (
        []
        if manifest is None
        else [key for key, value in manifest.decisions.items() if plain(decisions.get(key)) != value]
    )


def _code_of(manifest: Manifest, options: Options) -> Iterator[str]:
    """Every text of a manifest that could name the user's code, with its place; what the call overrides aside."""
    metric = manifest.options.get("metric")
    if options.metric is None and isinstance(metric, str) and is_reference(metric):
        yield f"{metric} (metric)"
    for step in parse_steps(manifest.recipe):
        if ":" in step.name:
            yield f"{step.name} (a pass)"
        for name, value in step.fields.items():
            yield from (f"{text} ({step.name}{{{name}}})" for text in _texts(value) if is_reference(text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for item in pair for text in _texts(item))
    elif isinstance(value, (list, tuple)):
        yield from (text for item in value for text in _texts(item))


def _as_text(value: Any) -> Any:
    return f"{value.__module__}:{value.__qualname__}" if callable(value) else value
