"""Code that the user names as ``module:function``, in a data file or on the command line."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from graphpress.errors import DataError, GraphpressError, did_you_mean

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_reference(text: str) -> bool:
    """Whether the text reads ``module:function``."""
    return bool(_REFERENCE.fullmatch(text))


def load_object(reference: str, folder: Path | None = None, error: type[GraphpressError] = DataError) -> Any:
    """The object a ``module:function`` reference names.

    Args:
        reference: the reference.
        folder: searched first for the module; the working directory without it.
        error: the class to raise, which decides the exit code.

    Raises:
        GraphpressError: of the class ``error``: the module cannot be imported, or has no such name.
    """
    module_name, _, name = reference.partition(":")
    place = (folder or Path.cwd()).resolve()
    with on_path(place):
        _drop_stale_module(module_name, place)
        try:
            module = importlib.import_module(module_name)
        except Exception as cause:
            raise error(
                f"cannot import module {module_name!r}: {type(cause).__name__}: {cause}",
                where=reference,
                fix=f"put {module_name.replace('.', '/')}.py into {place}, or onto PYTHONPATH",
            ) from cause
    if not hasattr(module, name):
        raise error(f"module {module_name!r} has no {name!r}", where=reference, fix=_suggestion(name, module))
    return getattr(module, name)


def _suggestion(name: str, module: ModuleType) -> str:
    """A public name of the module near the one that is missing; what it imports is not its own."""
    public = [
        key for key, value in vars(module).items() if not key.startswith("_") and not isinstance(value, ModuleType)
    ]
    return did_you_mean(name, public) if public else f"define {name} there"


def call_user(function: Any, *arguments: Any, where: str) -> Any:
    """Call the user's code.

    Raises:
        DataError: it is not callable or raised; the cause is chained.
    """
    if not callable(function):
        raise DataError("is not a function", where=where, fix="name something that can be called")
    try:
        return function(*arguments)
    except Exception as error:
        raise DataError(f"raised {type(error).__name__}: {error}", where=where, fix="correct the function") from error


def code_hash(function: Any) -> str:
    """SHA-256 of the file that defines a function, in hexadecimal; empty where there is none."""
    file = getattr(sys.modules.get(getattr(function, "__module__", "")), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


@contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """Let imports look into ``folder`` first."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _drop_stale_module(module_name: str, place: Path) -> None:
    """Drop an imported module that another folder's file of this name left behind."""
    own = place / f"{module_name.replace('.', '/')}.py"
    loaded = sys.modules.get(module_name)
    origin = getattr(loaded, "__file__", None)
    if own.is_file() and origin and Path(origin).resolve() != own:
        del sys.modules[module_name]
    importlib.invalidate_caches()
