"""Libraries of custom operators: whoever runs a model with such operators names them, and every session has them.

Loading a library runs its code: nothing is loaded that the user did not name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from graphpress.errors import UsageError

OPTION = "--custom-ops"
_registered: ContextVar[tuple[Path, ...]] = ContextVar("custom operator libraries", default=())


@contextmanager
def custom_operators(libraries: Sequence[str | os.PathLike[str]]) -> Iterator[None]:
    """Let the sessions that are opened within have the operators of these libraries.

    Args:
        libraries: shared libraries that export ``RegisterCustomOps``.

    Raises:
        UsageError: ONNX Runtime takes nothing of the kind from a file.
    """
    paths = tuple(Path(library).resolve() for library in libraries)
    for path in paths:
        _check(path)
    token = _registered.set((*_registered.get(), *paths))
    try:
        yield
    finally:
        _registered.reset(token)


def has_custom_operators() -> bool:
    """Whether operators that neither ONNX nor ONNX Runtime defines may have kernels here."""
    return bool(_registered.get())


def register(options: Any) -> None:
    """Add the libraries to the options of a session."""
    for path in _registered.get():
        options.register_custom_ops_library(str(path))


def _check(path: Path) -> None:
    import onnxruntime

    if not path.is_file():
        raise UsageError("no such library", where=f"{OPTION} {path}", fix="give the path of a shared library (.so)")
    try:
        onnxruntime.SessionOptions().register_custom_ops_library(str(path))
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise UsageError(
            f"ONNX Runtime cannot load it ({str(error).splitlines()[0]})",
            where=f"{OPTION} {path}",
            fix="give a library that exports RegisterCustomOps, built for this version of ONNX Runtime",
        ) from error
