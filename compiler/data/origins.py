"""Which files data comes from: what a run reads must neither be replaced by it nor change under it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graphpress.data.schema import DataFile, Part, Preprocess, check_data_file, is_data_file, read_data_file
from graphpress.data.user_code import is_reference
from graphpress.errors import DataError


def data_files(spec: Any) -> list[Path]:
    """The files and folders that data is read from: the data file, its sources and labels, the modules it names.

    Args:
        spec: as for ``load_dataset``. What it says wrongly is passed over, for ``load_dataset`` to refuse; what Python
            objects and functions read on their own is not known.
    """
    paths = list(_named_by(spec))
    return [path for path in dict.fromkeys(paths) if path.exists()]


def _named_by(spec: Any) -> Iterator[Path]:
    if isinstance(spec, (str, os.PathLike)):
        path = Path(spec)
        yield path
        if not is_data_file(path):
            return
        content, folder = _checked(path), path.parent
    elif isinstance(spec, Mapping):
        content, folder = _checked({key: part for key, part in spec.items() if not _is_object(part)}), Path()
    else:
        return
    if content is not None:
        for part in filter(None, (content.calibration, content.evaluation, content.selection)):
            yield from _of_part(part, folder)
        for options in content.preprocess.values():
            yield from _of_function(options, folder)


def _checked(source: Path | dict[str, Any]) -> DataFile | None:
    try:
        return read_data_file(source) if isinstance(source, Path) else check_data_file(source, "data")
    except DataError:
        return None


def _is_object(part: Any) -> bool:
    """Whether a part is data itself, rather than what a data file says of it."""
    return not isinstance(part, Mapping | int | None)


def _of_part(part: Part, folder: Path) -> Iterator[Path]:
    labels = None if part.labels is None or isinstance(part.labels, str | int) else part.labels.source
    for source in filter(None, (part.source, labels)):
        yield (folder / source).expanduser()
    yield from _module_files(part.source, folder)


def _of_function(options: Preprocess, folder: Path) -> Iterator[Path]:
    if options.function is not None:
        yield from _module_files(options.function, folder)


def _module_files(reference: str, folder: Path) -> Iterator[Path]:
    if is_reference(reference):
        base = folder / reference.partition(":")[0].replace(".", "/")
        yield from (base.with_suffix(".py"), base / "__init__.py")
