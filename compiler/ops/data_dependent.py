"""Operators whose sizes depend on what the data holds: everything stays."""

from __future__ import annotations

from graphpress.ops.rules import moving, opaque, per_output
from graphpress.ops.spec import MOVES_FIRST, OpSpec


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "Compress": OpSpec(opaque, moving, MOVES_FIRST),
        "NonMaxSuppression": OpSpec(opaque, per_output()),
        "NonZero": OpSpec(opaque, per_output()),
        "Unique": OpSpec(opaque, per_output()),
    }
