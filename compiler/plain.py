"""Records as the plain values of JSON, the same for ``report.json``, the manifest and ``--json``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

KEYS = {"pass_name": "pass"}
"""JSON keys that are Python keywords, by the attribute that stands for them."""


def plain(item: Any) -> Any:
    """Records, tuples, paths and numpy scalars as the plain values of JSON; floats that are not finite become None.

    >>> plain({"ratio": float("nan"), "file": PurePath("out"), "names": ("a", "b")})
    {'ratio': None, 'file': 'out', 'names': ['a', 'b']}
    """
    if is_dataclass(item) and not isinstance(item, type):
        return {KEYS.get(field.name, field.name): plain(getattr(item, field.name)) for field in fields(item)}
    if isinstance(item, Mapping):
        return {str(key): plain(value) for key, value in item.items()}
    if isinstance(item, float):
        return float(item) if math.isfinite(item) else None
    if item is None or isinstance(item, (bool, int, str)):
        return item
    if isinstance(item, PurePath):
        return str(item)
    if hasattr(item, "tolist"):
        return plain(item.tolist())
    if isinstance(item, Iterable):
        return [plain(value) for value in item]
    return str(item)
