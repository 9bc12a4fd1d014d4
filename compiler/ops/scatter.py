"""Operators that write into a copy of a tensor, at positions that may come at run time: everything stays."""

from __future__ import annotations

from graphpress.ops.rules import moving, opaque
from graphpress.ops.spec import OpSpec


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {name: OpSpec(opaque, moving) for name in ("Scatter", "ScatterElements", "ScatterND", "TensorScatter")}
