"""The output folder: claimed before work starts, written aside, put in place in one rename."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphpress.errors import UsageError


def default_folder(model: Path, target: str) -> Path:
    """``MODEL-TARGET`` in the working directory."""
    return Path(f"{model.stem}-{target}")


def check_folder(folder: Path, force: bool, inputs: Path) -> None:
    """Whether the folder may be written, asked before any work is done.

    Raises:
        UsageError: it is not empty and ``force`` was not given, it is a file, or it holds the input model.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError("is a file", where=str(folder), fix="choose another --output")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if inputs.resolve().is_relative_to(folder.resolve()):
        raise UsageError("holds the input model and cannot be replaced", where=str(folder), fix="choose another --output")
    if not force:
        raise UsageError("is not empty", where=str(folder), fix="choose another --output, or replace it with --force")


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes ``folder`` when the block ends well, and vanishes when it does not.

    Raises:
        UsageError: the place cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UsageError(f"cannot be written ({error.strerror})", where=str(folder), fix="choose another --output") from error
    try:
        aside.chmod(0o755)
        yield aside
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
