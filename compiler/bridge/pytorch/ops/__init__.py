"""The table of translations. A new operator is one entry in its family."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from graphpress.bridge.pytorch.call import Translation
from graphpress.bridge.pytorch.ops import (
    attention,
    control,
    elementwise,
    finding,
    layout,
    linear,
    norm,
    pooling,
    quantized,
    recurrent,
    reduce,
    regions,
    resize,
    scatter,
    select,
    sources,
)
from graphpress.ir.values import STANDARD_DOMAINS

_FAMILIES = (
    attention,
    control,
    elementwise,
    finding,
    layout,
    linear,
    norm,
    pooling,
    quantized,
    recurrent,
    reduce,
    regions,
    resize,
    scatter,
    select,
    sources,
)


def lookup(op_type: str, domain: str = "") -> Translation | None:
    """The translation of an operator, or None when there is none."""
    return table().get(op_type if domain in STANDARD_DOMAINS else f"{domain}:{op_type}")


@cache
def table() -> Mapping[str, Translation]:
    """All translations by operator; one of another domain than the standard's is called ``domain:operator``.

    Raises:
        ValueError: two families have an entry for the same operator.
    """
    found: dict[str, Translation] = {}
    for family in _FAMILIES:
        for name, translation in family.entries().items():
            if name in found:
                raise ValueError(f"{name} has two entries, one of them in {family.__name__}")
            found[name] = translation
    return MappingProxyType(found)
