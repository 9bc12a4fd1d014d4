"""The one table of operators. A new operator is one entry in the list of its family."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from graphpress.ir.values import STANDARD_DOMAINS
from graphpress.ops import (
    attention,
    elementwise,
    layout,
    linear,
    norm,
    pooling,
    quantized,
    recurrent,
    reduce,
    select,
    sources,
)
from graphpress.ops.spec import OpSpec

_FAMILIES = (
    attention,
    elementwise,
    layout,
    linear,
    norm,
    pooling,
    quantized,
    recurrent,
    reduce,
    select,
    sources,
)


def lookup(op_type: str, domain: str = "") -> OpSpec | None:
    """What the table says of an operator, or None when it is not in the table."""
    return table().get(("" if domain in STANDARD_DOMAINS else domain, op_type))


@cache
def table() -> Mapping[tuple[str, str], OpSpec]:
    """All entries by (domain, operator).

    Raises:
        ValueError: two families have an entry for the same operator.
    """
    found: dict[tuple[str, str], OpSpec] = {}
    for family in _FAMILIES:
        for spec in family.entries():
            key = (spec.domain, spec.op_type)
            if key in found:
                raise ValueError(f"{spec.op_type} has two entries, one of them in {family.__name__}")
            found[key] = spec
    return MappingProxyType(found)
