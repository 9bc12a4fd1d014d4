"""Code that the user names as ``module:function``, in a data file or on the command line.

The module that is named is looked for in a folder first; what it imports in turn may lie there too, but only where
nothing installed has the name: a file of that folder that nobody named takes no other module's place.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
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
        GraphpressError: of the class ``error``: it is no reference, the module cannot be imported, or has no such name.
    """
    if not is_reference(reference):
        raise error(f"{reference!r} names no function or class", where=reference, fix="write it as module:function")
    module_name, _, name = reference.partition(":")
    place = (folder or Path.cwd()).resolve()
    with on_path(place), _found_first(module_name.partition(".")[0], place):
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
    """Let imports look into ``folder`` too, after all other places; no compiled files are left there."""
    if str(folder) in sys.path:
        yield
        return
    writes = sys.dont_write_bytecode
    sys.path.append(str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(folder))


class _FolderFinder:
    """Finds one module, by its full name, in one folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The module's place; None for all others, and for a folder that is no package: it may hold anything."""
        spec = PathFinder.find_spec(name, [str(self._folder)]) if name == self._name else None
        return None if spec is None or spec.loader is None else spec


@contextmanager
def _found_first(name: str, folder: Path) -> Iterator[None]:
    """Let the import of one module look into ``folder`` before all other places."""
    finder: Any = _FolderFinder(name, folder)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def _drop_stale_module(module_name: str, place: Path) -> None:
    """Drop an imported module that another folder's file of this name left behind."""
    own = place / f"{module_name.replace('.', '/')}.py"
    loaded = sys.modules.get(module_name)
    origin = getattr(loaded, "__file__", None)
    if own.is_file() and origin and Path(origin).resolve() != own:
        del sys.modules[module_name]
    importlib.invalidate_caches()
