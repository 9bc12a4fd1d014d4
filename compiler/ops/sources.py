"""Operators whose results depend on shapes or on nothing: constants, ranges, shapes, random numbers."""

from __future__ import annotations

from graphpress.ops.rules import moving, opaque, per_output, same, source, view
from graphpress.ops.spec import OpSpec

_RANDOM = ("RandomNormal", "RandomUniform")
_RANDOM_LIKE = ("RandomNormalLike", "RandomUniformLike", "Bernoulli")


def entries() -> list[OpSpec]:
    """The operators of this family."""
    return [
        *(OpSpec(name, source, view) for name in ("Constant", "Shape", "Size")),
        *(OpSpec(name, source, moving) for name in ("ConstantOfShape", "Range")),
        OpSpec("EyeLike", opaque, moving),
        *(OpSpec(name, source, per_output(), foldable=False) for name in _RANDOM),
        *(OpSpec(name, same, per_output(), foldable=False) for name in _RANDOM_LIKE),
        OpSpec("Multinomial", opaque, per_output(), foldable=False),
    ]
