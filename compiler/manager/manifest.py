"""``manifest.json``: what a run was based on and what it wrote, enough to run it again to the same bytes.

The same inputs with the same recorded decisions give the same outputs; ``optimize MODEL --recipe manifest.json``
replays them, and ``changed_inputs`` says whether the model is still the one that was recorded.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from graphpress.errors import UsageError
from graphpress.plain import plain
from graphpress.printable import printable_json
from graphpress.runtime.environment import library_versions, machine

if TYPE_CHECKING:
    from graphpress.ir import Model

MANIFEST_VERSION = 1
"""Its key, ``manifest_version``, is also what tells a manifest from a recipe file."""

MANIFEST_FILE = "manifest.json"
MAX_DEPTH = 16
"""Levels of lists and tables in a manifest: those of a run have half as many."""

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file by content.

    Args:
        name: path relative to its folder (that of the model for inputs, that of the run for outputs).
        sha256: hexadecimal digest of its bytes.
        bytes: its size.
    """

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One run.

    Args:
        recipe: the passes in the canonical text form, as ``--passes`` takes them.
        target, backend, seed, threads: as the run used them; the path of a target file as it was given.
        target_digest: ``Target.digest``; empty in manifests of versions that did not record it.
        options: every other option that matters, by its Python name.
        decisions: choices that were made by measurement, by key.
        inputs: the model file first, then its external data.
        outputs: every file that was written, the manifest itself excepted.
        data: fingerprint of each part of the data (``calibration``, ``evaluation``, ``selection``).
        versions: of the libraries; None where one was not installed.
        machine: Python, platform and processor.
    """

    recipe: str
    target: str
    backend: str
    target_digest: str = ""
    seed: int = 0
    threads: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    decisions: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[FileRecord, ...] = ()
    outputs: tuple[FileRecord, ...] = ()
    data: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=library_versions)
    machine: dict[str, str] = field(default_factory=machine)
    manifest_version: int = MANIFEST_VERSION


def file_record(file: Path, folder: Path | None = None) -> FileRecord:
    """Digest and size of a file, read in bounded memory; its name is relative to ``folder`` (default: its own)."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    name = file.relative_to(folder or file.parent).as_posix()
    return FileRecord(name=name, sha256=digest.hexdigest(), bytes=file.stat().st_size)


def file_records(files: Iterable[Path], folder: Path) -> tuple[FileRecord, ...]:
    """Records of files below ``folder``, sorted by name; folders among them are walked."""
    every = {entry for file in files for entry in (file.rglob("*") if file.is_dir() else (file,)) if entry.is_file()}
    return tuple(sorted((file_record(file, folder) for file in every), key=lambda record: record.name))


def model_records(path: Path, model: Model) -> tuple[FileRecord, ...]:
    """Records of ``model_files``; the names of those beside the model are relative to its folder."""
    return tuple(file_record(file, path.parent) for file in model_files(path, model))


def model_files(path: Path, model: Model) -> list[Path]:
    """A model file and the external data that ``model``, read from it, refers to."""
    from graphpress.ir import ExternalTensor, tensors

    locations = {str(tensor.location) for tensor in tensors(model) if isinstance(tensor, ExternalTensor)}
    return [path, *(path.parent / location for location in sorted(locations))]


def changed_inputs(manifest: Manifest, now: Iterable[FileRecord]) -> list[str]:
    """Names of recorded inputs whose content has changed, or which are missing.

    The model file is matched by its place in the list, not its name: a renamed model is the same model.
    """
    records = list(now)
    by_name = {record.name: record.sha256 for record in records}
    if records and manifest.inputs:
        by_name[manifest.inputs[0].name] = records[0].sha256
    return [record.name for record in manifest.inputs if by_name.get(record.name) != record.sha256]


def foreign_files(folder: Path) -> list[str]:
    """Files below a folder that are not what its ``manifest.json`` says that a run wrote: others, or with other bytes.

    Raises:
        UsageError: there is no manifest, or it cannot be read.
        OSError: the folder or a file in it cannot be read.
    """
    manifest = folder / MANIFEST_FILE
    if not _is_regular(manifest):  # a link or a pipe would be followed
        raise UsageError("has no manifest.json", where=str(folder), fix="give the folder that a run has written")
    recorded = {record.name: record for record in read_manifest(manifest).outputs}
    return [
        name
        for name, file in sorted(_files_below(folder))
        if name != MANIFEST_FILE and not _is_as_recorded(file, recorded.get(name))
    ]


def _is_as_recorded(file: Path, record: FileRecord | None) -> bool:
    if record is None or not _is_regular(file) or file.stat().st_size != record.bytes:
        return False
    return file_record(file).sha256 == record.sha256


def _is_regular(file: Path) -> bool:
    return file.exists() and S_ISREG(file.lstat().st_mode)


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything but folders, by its path relative to the folder; links are not followed."""

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        for name in (*files, *(name for name in folders if os.path.islink(os.path.join(place, name)))):
            path = Path(place, name)
            yield path.relative_to(folder).as_posix(), path


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write ``manifest.json``: stable key order, no NaN."""
    table = plain(manifest)
    table = {"manifest_version": table.pop("manifest_version"), **table}
    text = json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(printable_json(text) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> Manifest:
    """Read and validate a ``manifest.json``.

    Raises:
        UsageError: the file is missing, not JSON, of another version, or a field has the wrong type.
    """
    table = _parse(path)
    version = table.get("manifest_version")
    if version != MANIFEST_VERSION:
        raise UsageError(
            f"manifest of version {version!r} cannot be read",
            where=str(path),
            fix=f"replay it with a graphpress whose manifests have version {MANIFEST_VERSION}",
        )
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Manifest).validate_python(table)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise UsageError(f"malformed manifest: {place}: {first['msg']}", where=str(path),
                         fix="use the manifest.json that a run left behind, unedited") from error  # fmt: skip


def _parse(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"), parse_constant=_number, parse_float=_number)
    except OSError as error:
        raise UsageError(
            f"cannot be read ({error.strerror})", where=str(path), fix="give the path of a manifest.json"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"not valid JSON ({error})", where=str(path), fix="give the path of a manifest.json"
        ) from error
    except RecursionError:
        table = None
    if not isinstance(table, dict) or _is_deeper(table, MAX_DEPTH):
        raise UsageError("not a manifest", where=str(path), fix="give the path of a manifest.json")
    return table


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no number")
    return number


def _is_deeper(table: Any, levels: int) -> bool:
    """Whether values are nested in more levels of lists and tables than this."""
    layer = [table]
    while layer and levels >= 0:
        layer = [inner for item in layer if isinstance(item, (dict, list))
                 for inner in (item.values() if isinstance(item, dict) else item)]  # fmt: skip
        levels -= 1
    return any(isinstance(item, (dict, list)) for item in layer)
