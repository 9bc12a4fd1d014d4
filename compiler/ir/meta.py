"""What is kept beside nodes and values, read without making a place to keep it.

``meta`` and ``metadata_props`` of onnx_ir make a store or a dictionary for whoever asks. Walks ask every node and value
of a model, nearly all of which have nothing there: the stores would double what a model takes in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from graphpress.ir.types import Node, Value

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def attached(item: Node | Value) -> Mapping[str, Any]:
    """Objects that are attached to a node or value in memory, by key; not to be changed."""
    store = item._metadata
    return _NOTHING if store is None else store.data


def texts(item: Node | Value) -> Mapping[str, str]:
    """What is written beside a node or value, and goes into files, by key; not to be changed."""
    return item._metadata_props or _NOTHING


def forget_object(item: Node | Value, key: str) -> bool:
    """Detach an object; whether it was attached."""
    if key not in attached(item):
        return False
    del item.meta[key]
    return True


def forget_text(item: Node | Value, key: str) -> None:
    """Drop what is written beside a node or value under a key, if anything is."""
    if key in texts(item):
        del item.metadata_props[key]
