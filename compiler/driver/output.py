"""The output folder: claimed before work starts, written aside, put in place in one rename."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from graphpress.errors import UsageError, reraise_resource_fault
from graphpress.targets.sources import is_path


def default_folder(model: Path, target: str) -> Path:
    """``MODEL-TARGET`` in the working directory, without the target's options or folder."""
    called = target.partition("{")[0].strip()
    return Path(f"{model.stem}-{Path(called).stem if is_path(called) else called}")


def check_folder(folder: Path, force: bool, inputs: Iterable[Path]) -> None:
    """Whether the folder may be written, asked before any work is done.

    Args:
        folder: what would be replaced whole.
        force: replace it even if it is not empty.
        inputs: files that the run reads, the model first.

    Raises:
        UsageError: it is not empty and ``force`` was not given, it is a file, or it holds an input or the working
            directory.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError("is a file", where=str(folder), fix="choose another --output")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    for inside, what in (*((file, file.name) for file in inputs), (Path.cwd(), "the working directory")):
        if inside.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"holds {what} and cannot be replaced", where=str(folder), fix="choose another --output")
    if not force:
        raise UsageError(
            "is not empty",
            where=str(folder),
            fix="choose another --output (output=), or replace it with --force (force=True)",
        )


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes ``folder`` when the block ends well, and vanishes when it does not.

    Raises:
        UsageError: there can be no folder at that place.
        ResourceError: it cannot be written, or the disk is full.
    """
    folder = folder.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        reraise_resource_fault(error, str(folder))
        raise UsageError(
            f"cannot be written ({error.strerror})", where=str(folder), fix="choose another --output"
        ) from error
    try:
        aside.chmod(0o755)
        yield aside
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
