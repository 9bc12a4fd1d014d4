"""The whole Python API of a TensorRT, as JSON: classes with their attributes and signatures, enumerations with values.

    LD_LIBRARY_PATH=STUBS python surface.py tensorrt_bindings

And what our toolchain adapter makes of it. Runs in a process of its own: several versions cannot share one.
"""

import enum
import importlib
import inspect
import json
import sys
from types import ModuleType
from typing import Any


def surface(module: ModuleType) -> dict[str, Any]:
    """Every public name of the module: for a class its attributes, with the first lines of their documentation."""
    names = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return {
        "version": module.__version__,
        "functions": sorted(name for name, value in names.items() if callable(value) and not isinstance(value, type)),
        "classes": {name: described(kind) for name, kind in names.items() if isinstance(kind, type)},
    }


def described(kind: type) -> dict[str, Any]:
    """Attributes of a class by name, and the members of an enumeration with their numbers."""
    members = getattr(kind, "__members__", {})
    return {
        "bases": [base.__name__ for base in kind.__mro__[1:]],
        "members": {name: int(value) for name, value in members.items()},
        "attributes": {name: signature(kind, name) for name in dir(kind) if not name.startswith("__")},
        "init": signature(kind, "__init__"),
    }


def signature(kind: type, name: str) -> str:
    """The signature lines that the bindings write into the documentation, overloads included; "" for a property."""
    value = inspect.getattr_static(kind, name, None)
    if isinstance(value, (property, enum.Enum)) or not callable(getattr(kind, name, None)):
        return ""
    lines = (getattr(kind, name).__doc__ or "").splitlines()
    return "\n".join(line.strip() for line in lines if f"{name}(" in line and "->" in line)


def features(module: ModuleType) -> dict[str, Any]:
    """What the adapter finds in the module."""
    from graphpress.backends.tensorrt.toolchain import Toolchain

    found = Toolchain.of(module)
    named = {name: getattr(found, name) for name in ("ahead_of_time", "capabilities", "weak", "strong")}
    return {
        **named,
        "flags": sorted(found.flags),
        "bits": {"strong": found.creation_flags(True), "weak": found.creation_flags(False)},
    }


if __name__ == "__main__":
    imported = importlib.import_module(sys.argv[1])
    json.dump({**surface(imported), "features": features(imported)}, sys.stdout)
